"""Four virtual CPU devices, and rank promotion that raises, before JAX starts."""

import atexit
import gc
import os
import shutil
import sys
import tempfile
import types

import pytest

from quick import QUICK_COMPILATION

os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        QUICK_COMPILATION,
        "--xla_force_host_platform_device_count=4",
    ]
)
# Many tests compile the same views, evaluations and networks: once a session is enough.
# Its processes share the folder, which the first of them makes and removes.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    folder = tempfile.mkdtemp(prefix="ssl_jax_compiled_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["JAX_PLATFORMS"] = "cpu"
# A [B] loss times a [B, 1] mask averages instead of masking; here it is an error.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Tracing makes many objects that live on: looking for garbage among them takes a tenth
# of its time.
gc.set_threshold(50_000)


@pytest.fixture(scope="session")
def launch():
    """launching.Launcher, of one process that imports everything for a session."""
    import launching  # which imports this module

    with launching.forked() as launcher:
        yield launcher


@pytest.fixture
def events(monkeypatch):
    """events(folder): what TensorBoard reads there; it does without TensorFlow where it
    finds this module."""
    notf = "tensorboard.compat.notf"
    monkeypatch.setitem(sys.modules, notf, types.ModuleType(notf))
    from tensorboard.backend.event_processing import event_accumulator

    def read(folder):
        accumulator = event_accumulator.EventAccumulator(str(folder))
        return accumulator.Reload()

    return read


def pytest_collection_modifyitems(items):
    """Those of ten seconds and more first, or one process would end by waiting for the
    other's."""
    slow = ("test_resume.py", "test_probing.py", "test_launch.py", "test_real_loop.py")
    items.sort(key=lambda item: item.path.name not in slow)
