"""STL-10 from its binary files, and by tfds' real builder over the same files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssl_jax.data import sources
from ssl_jax.data.splits import split
from ssl_jax.errors import UserError
from stl10_files import CLASS_NAMES, write_stl10

TESTS = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_JAX_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    "place", ["", "stl10_binary", "downloads/extracted/x/stl10_binary"]
)
def test_the_pool_is_train_then_unlabeled(tmp_path, place):
    written = write_stl10(tmp_path / "data" / place)
    data = sources.load("stl10", data_dir=str(tmp_path / "data"), fold=3)
    assert data.images_NHWC.shape == (50, 96, 96, 3)
    np.testing.assert_array_equal(data.images_NHWC[:20], written["train"])
    np.testing.assert_array_equal(data.images_NHWC[20:], written["unlabeled"])
    np.testing.assert_array_equal(data.labels_N[:20], written["train_labels"])
    assert (data.labels_N[20:] == -1).all()
    np.testing.assert_array_equal(data.test_images_MHWC, written["test"])
    np.testing.assert_array_equal(data.test_labels_M, written["test_labels"])
    assert data.class_names == tuple(CLASS_NAMES)
    assert len(data.folds) == 10
    parts = split(data, num_labels=0, fold=3, seed=0)
    np.testing.assert_array_equal(parts.labeled, np.arange(10, 20))
    np.testing.assert_array_equal(parts.unlabeled, np.arange(50))


def test_a_known_pixel_is_stored_channel_column_row(tmp_path):
    write_stl10(tmp_path / "data")
    raw = bytearray((tmp_path / "data" / "train_X.bin").read_bytes())
    # Image 2, green (1), column 5, row 7.
    raw[2 * 27_648 + 1 * 9_216 + 5 * 96 + 7] = 77
    raw[2 * 27_648 + 1 * 9_216 + 7 * 96 + 5] = 99
    (tmp_path / "data" / "train_X.bin").write_bytes(raw)
    data = sources.load("stl10", data_dir=str(tmp_path / "data"))
    assert data.images_NHWC[2, 7, 5, 1] == 77
    assert data.images_NHWC[2, 5, 7, 1] == 99


def test_the_real_builder_gives_the_same_arrays_in_the_same_order(tmp_path):
    write_stl10(tmp_path / "stl10_binary")
    prepared = tmp_path / "tfds"
    prepared.mkdir()
    command = [sys.executable, TESTS / "tfds_files.py", "stl10", prepared]
    subprocess.run(
        [*command, tmp_path / "stl10_binary"], check=True, capture_output=True
    )
    binary = sources.load("stl10", data_dir=str(tmp_path))
    by_tfds = sources.load("stl10", data_dir=str(prepared))
    for name in ("images_NHWC", "labels_N", "test_images_MHWC", "test_labels_M"):
        np.testing.assert_array_equal(getattr(binary, name), getattr(by_tfds, name))
    assert binary.class_names == by_tfds.class_names
    assert by_tfds.folds == ()
    with pytest.raises(UserError, match="fold=0 needs STL-10's binary files"):
        sources.load("stl10", data_dir=str(prepared), fold=0)


def test_image_size_shrinks_the_images(tmp_path):
    write_stl10(tmp_path / "data")
    full = sources.load("stl10", data_dir=str(tmp_path / "data"))
    small = sources.load("stl10", data_dir=str(tmp_path / "data"), image_size=32)
    assert small.images_NHWC.shape == (50, 32, 32, 3)
    assert abs(small.images_NHWC.mean() - full.images_NHWC.mean()) < 1


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("train_X.bin", lambda b: b[:-10], "552,950 bytes.*20 images.*552,960"),
        ("train_X.bin", lambda b: b[:-27_648], "525,312 bytes.*20 images.*552,960"),
        ("unlabeled_X.bin", lambda b: b[:-10], "829,430 bytes.*30 images.*829,440"),
        ("test_y.bin", lambda b: b"\x0b" + b[1:], "row 0 has label 11.*1 to 10"),
        ("fold_indices.txt", lambda b: b"3 20\n", "line 1 has index 20.*0 to 19"),
        ("test_X.bin", None, "lacks test_X.bin"),
    ],
)
def test_damaged_files(tmp_path, file, change, message):
    write_stl10(tmp_path / "data")
    path = tmp_path / "data" / file
    if change:
        path.write_bytes(change(path.read_bytes()))
    else:
        path.unlink()
    with pytest.raises(UserError, match=message):
        sources.load("stl10", data_dir=str(tmp_path / "data"))
    # Nothing is left that could be taken for a cache.
    assert not os.path.exists(tmp_path / "cache") or not os.listdir(tmp_path / "cache")
