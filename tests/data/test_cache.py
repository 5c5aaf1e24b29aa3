"""The cache of decoded images is kept within its limit, the last used ones first."""

import os
import time

import numpy as np
import pytest

from ssl_jax.data import cache
from ssl_jax.errors import UserError


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(out, rows=1_000):
    for name in ("images_NHWC", "test_images_MHWC"):
        np.save(out / f"{name}.npy", np.zeros((rows, 10, 10, 1), np.uint8))
    for name in ("labels_N", "test_labels_M"):
        np.save(out / f"{name}.npy", np.zeros(rows, np.int32))
    return {"name": "toy", "class_names": ["a", "b"]}


def used(root, **hours_ago):
    for key, hours in hours_ago.items():
        os.utime(root / key, (time.time() - 3_600 * hours,) * 2)


def there(root):
    return sorted(path.name for path in root.iterdir())


def test_what_was_not_used_for_longest_goes_first(root, monkeypatch):
    for key in "abc":
        cache.cached(key, build)  # of about 0.21 MB each
    (root / "planetoid").mkdir()  # no entry: what was downloaded stays
    used(root, a=5, b=9, c=0.5)
    monkeypatch.setenv("SSL_JAX_CACHE_GB", "0.0007")
    cache.cached("a", build)  # used now
    mapped = cache.cached("b", build).images_NHWC
    used(root, a=2, b=9)
    cache.cached("d", build)
    assert there(root) == ["a", "c", "d", "planetoid"]
    assert mapped.sum() == 0  # who has it, keeps it
    monkeypatch.setenv("SSL_JAX_CACHE_GB", "0.0001")
    cache.cached("e", build)
    assert there(root) == ["c", "d", "e", "planetoid"]  # of the last hour
    used(root, c=3, d=3, e=3)
    monkeypatch.setenv("SSL_JAX_CACHE_GB", "0")
    cache.cached("f", build)
    assert len(there(root)) == 5


@pytest.mark.parametrize("given", ["many", "-1", "inf", "nan"])
def test_a_limit_that_is_none(root, monkeypatch, given):
    monkeypatch.setenv("SSL_JAX_CACHE_GB", given)
    with pytest.raises(UserError, match=f"SSL_JAX_CACHE_GB='{given}' is no size: give"):
        cache.cached("a", build)


def test_entries_by_their_prefix_the_one_used_last_first(root):
    assert cache.entries("x-") == []
    for key in ("x-1", "x-2", "y-1"):
        cache.cached(key, build)
    used(root, **{"x-1": 1, "x-2": 2, "y-1": 3})
    assert [path.name for path in cache.entries("x-")] == ["x-1", "x-2"]
    cache.cached("x-2", build)
    assert [path.name for path in cache.entries()] == ["x-2", "x-1", "y-1"]
