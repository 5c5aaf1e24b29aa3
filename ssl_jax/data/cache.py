"""Decoded data sets as memory-mapped `.npy` files, so that a second start is instant.

A data set is written into a temporary folder and renamed into place when complete:
what has its final name is whole, whoever was killed or raced meanwhile.

When one is added, the others that were not used for longest go, until all take no more
than SSL_JAX_CACHE_GB (20 by default: 130,000 images of 224x224; 0: no limit). What was
used within the last hour stays.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError

_HOUR, _DAY = 3_600, 86_400  # seconds
_GIGABYTES = 20.0
_REST = "rest.json"  # the mark of an entry

_ARRAYS = ("images_NHWC", "labels_N", "test_images_MHWC", "test_labels_M")


def cached(key: str, build: Callable[[Path], dict]) -> Dataset:
    """The data set in the cache folder `key`, which `build` fills where it is missing.

    Args:
      key: a folder name that says what the content depends on.
      build: called with an empty folder; writes images_NHWC.npy, labels_N.npy,
        test_images_MHWC.npy and test_labels_M.npy there, and returns the rest, as JSON
        can hold it: {"name", "class_names"} and, where there are any, "folds" and
        "names"; and "key", where what could be read is not what `key` says.

    Raises:
      UserError: the cache cannot be written, or its limit is no number.
    """
    final, rest = entry(key, build)
    arrays = {n: np.load(final / f"{n}.npy", mmap_mode="r") for n in _ARRAYS}
    return Dataset(
        name=rest["name"],
        class_names=tuple(rest["class_names"]),
        names_N=tuple(rest.get("names", ())),
        folds=tuple(np.asarray(fold, np.int32) for fold in rest.get("folds", ())),
        **arrays,
    )


def entry(key: str, build: Callable[[Path], dict]) -> tuple[Path, dict]:
    """The cache folder `key`, which `build` fills where it is missing, and what that
    returned.

    Args:
      build: called with an empty folder; returns JSON, and "key" as in `cached`.

    Raises:
      UserError: as `cached`.
    """
    final = root() / key
    if not final.exists():
        most, temporary = limit(), _temporary(root(), key)
        try:
            rest = build(temporary)
            final = root() / rest.pop("key", key)
            (temporary / _REST).write_text(json.dumps(rest))
            _publish(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        if most:
            _prune(most, final)
    with contextlib.suppress(OSError):  # of another user, who keeps it
        os.utime(final)
    return final, json.loads((final / _REST).read_text())


def root() -> Path:
    """The folder of what can be made again: SSL_JAX_CACHE, or the user's."""
    chosen = os.environ.get("SSL_JAX_CACHE")
    return Path(chosen or Path.home() / ".cache" / "ssl_jax").expanduser()


def limit() -> float:
    """Bytes that data sets may take; 0: no limit.

    Raises:
      UserError: SSL_JAX_CACHE_GB is no size.
    """
    given = os.environ.get("SSL_JAX_CACHE_GB", "")
    try:
        gigabytes = float(given or _GIGABYTES)
        if not 0 <= gigabytes < math.inf:
            raise ValueError
    except ValueError as error:
        raise UserError(
            f"SSL_JAX_CACHE_GB={given!r} is no size: give gigabytes, or 0 for no limit."
        ) from error
    return gigabytes * 1e9


def entries(prefix: str = "") -> list[Path]:
    """Those whose keys begin so, the one used last first."""
    used = {}
    for mark in root().glob(f"{prefix}*/{_REST}"):
        with contextlib.suppress(OSError):  # another process has just removed it
            used[mark.parent] = mark.parent.stat().st_mtime
    return sorted(used, key=used.get, reverse=True)


def fingerprint(paths: Iterable[Path]) -> str:
    """What tells these files from others of the same names: sizes and dates."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        stat = path.stat()
        digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:12]


def create(folder: Path, name: str, shape: tuple[int, ...], dtype) -> np.memmap:
    """A new memory-mapped `folder/name.npy` to write into.

    Raises:
      UserError: the disk has not enough room (a memory map would die by SIGBUS).
    """
    needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{name} needs {needed:,} bytes in {folder.parent}, where {free:,} are "
            "free: make room, or set SSL_JAX_CACHE to a folder on a larger disk."
        )
    return np.lib.format.open_memmap(
        folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape
    )


def _temporary(root: Path, key: str) -> Path:
    """A new folder in `root`; removes those that processes killed long ago left."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        for left in root.glob(".building-*"):
            if time.time() - left.stat().st_mtime > _DAY:
                shutil.rmtree(left, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=f".building-{key}-", dir=root))
    except OSError as error:
        raise UserError(
            f"The cache folder {root} cannot be written ({error.strerror}): set "
            "SSL_JAX_CACHE to a folder that can."
        ) from error


def _publish(temporary: Path, final: Path) -> None:
    """Renames `temporary` to `final`, unless another process was first."""
    temporary.chmod(0o755)  # mkdtemp's 0o700 would keep others from a shared cache
    try:
        temporary.rename(final)
    except OSError:
        if not final.exists():  # it is not that another process was first
            raise


def _prune(limit: float, kept: Path) -> None:
    """Removes entries until they take `limit` bytes, but for `kept`."""
    total = 0
    for entry in [kept, *(entry for entry in entries() if entry != kept)]:
        with contextlib.suppress(OSError):  # another process prunes as well
            total += sum(file.stat().st_size for file in entry.iterdir())
            unused = time.time() - entry.stat().st_mtime > _HOUR
            if total > limit and unused and entry != kept:
                # Nobody sees a half; whoever has its arrays mapped, keeps them.
                gone = entry.with_name(f".building-removed-{entry.name}-{os.getpid()}")
                entry.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
