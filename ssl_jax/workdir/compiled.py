"""Compiled programs, kept for the next process that asks for the same.

JAX does so by itself (jax_compilation_cache_dir), but writes a program where others
already read it, leaves a half that a killed process wrote where it is, for good, and
does not know on how many cores a program was compiled to run. Here

* an entry is written beside and renamed, and has a checksum: one that is damaged is
  told, removed and compiled anew;
* a program is kept for the processor and the number of cores that it was compiled for;
* those that were not used for longest go, when all take more than a limit.

A folder that cannot be written costs a warning, and the time to compile.
"""

import contextlib
import hashlib
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
from absl import logging

# Only inside is a place for another cache than JAX's own.
from jax._src import compilation_cache as jax_cache
from jax._src.compilation_cache_interface import CacheInterface

_HOUR, _DAY = 3_600, 86_400  # seconds
_SUFFIX, _UNDER_WAY = "-cache", ".writing-"
_DIGEST = hashlib.sha256().digest_size

# JAX would keep what took a second to compile. A run has tens of small programs: each
# takes about 30 ms to compile and 3 ms to read.
_ALL = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
# In Linux's /proc/cpuinfo, on x86 and (the last) on ARM.
_OF_A_PROCESSOR = ("vendor_id", "cpu family", "model", "flags", "Features")


def keep(folder: Path, limit: float) -> None:
    """Has JAX keep below `folder` what this process compiles from now on, and use what
    is there.

    Args:
      limit: bytes that all may take; 0: no limit.
    """
    own = folder / machine()
    try:
        own.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _warn("kept in", own, error)
        return
    jax.config.update("jax_compilation_cache_dir", str(own))
    for setting, value in _ALL.items():
        if setting.upper() not in os.environ:
            jax.config.update(setting, value)
    if not os.access(own, os.W_OK):  # XLA for a GPU would stop where it cannot write
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    jax_cache.reset_cache()
    jax_cache._cache, jax_cache._cache_initialized = Entries(own, limit), True


def machine() -> str:
    """What tells processors, and how many cores there are for this process, apart.

    JAX's keys have its version and what the processor can do, not the cores: a program
    for one core would keep all others idle.
    """
    digest = hashlib.sha256(repr((platform.machine(), _cores())).encode())
    with contextlib.suppress(OSError):  # only Linux has it
        of_first, _, _ = Path("/proc/cpuinfo").read_text().partition("\n\n")
        for line in of_first.splitlines():
            name, _, value = line.partition(":")
            if name.strip() in _OF_A_PROCESSOR:
                digest.update(f"{name.strip()} {sorted(value.split())}".encode())
    return digest.hexdigest()[:12]


def _cores():
    """As many threads as XLA starts."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return os.environ.get("NPROC"), len(os.sched_getaffinity(0))
    return os.environ.get("NPROC"), os.cpu_count()


class Entries(CacheInterface):
    """The compiled programs in a folder: a file each, then its checksum.

    Any number of processes may read and write them.
    """

    def __init__(self, folder: Path, limit: float):
        """Args: limit: bytes that it and the folders beside it may take; 0: none."""
        self._path, self._limit = folder, limit
        self._wrote = self._failed = False

    def get(self, key: str) -> bytes | None:
        """The program with this key; None: there is none, or it is damaged."""
        path = self._path / f"{key}{_SUFFIX}"
        try:
            with path.open("rb") as file:
                entry = file.read()
                unused = time.time() - os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        program, checksum = entry[:-_DIGEST], entry[-_DIGEST:]
        if hashlib.sha256(program).digest() != checksum:
            logging.warning("%s is damaged, and is compiled anew", path)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        if unused > _HOUR:
            with contextlib.suppress(OSError):  # of another user
                os.utime(path)
        return program

    def put(self, key: str, value: bytes) -> None:
        """Keeps the program `value`."""
        if self._failed:
            return
        try:
            self._write(self._path / f"{key}{_SUFFIX}", value)
            if self._limit and not self._wrote:
                self._prune()
            self._wrote = True
        except OSError as error:
            self._failed = True
            _warn("added to", self._path, error)

    def _write(self, path, program):
        number, beside = tempfile.mkstemp(prefix=_UNDER_WAY, dir=self._path)
        try:
            with open(number, "wb") as file:
                file.write(program + hashlib.sha256(program).digest())
            os.chmod(beside, 0o644)  # mkstemp's 0o600 would keep others from reading
            os.replace(beside, path)
        except OSError:
            os.unlink(beside)
            raise

    def _prune(self):
        """Removes those that were not used for longest until the others take the limit,
        but none of the last hour; and what processes killed long ago left."""
        total, now = 0, time.time()
        for used, size, path in sorted(self._files(), reverse=True):
            under_way = path.name.startswith(_UNDER_WAY)
            total += size
            if now - used > (_DAY if under_way else _HOUR) and (
                under_way or total > self._limit
            ):
                with contextlib.suppress(OSError):  # another process prunes as well
                    path.unlink()

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """(when it was used last, bytes, path), of each machine's."""
        for path in self._path.parent.glob("*/*"):
            if path.name.endswith(_SUFFIX) or path.name.startswith(_UNDER_WAY):
                with contextlib.suppress(OSError):
                    stat = path.stat()
                    yield stat.st_mtime, stat.st_size, path


def _warn(what, folder, error):
    logging.warning(
        "no compiled program is %s %s (%s): the next start compiles all again; set "
        "SSL_JAX_CACHE to a folder that can be written.",
        *(what, folder, error.strerror),
    )
