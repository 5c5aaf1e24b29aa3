"""A CPU's cores, each a device of the mesh.

XLA gives one CPU device all cores and keeps 1.3 of 2 busy: a step of 64 images of
WRN-28-2 takes .68 s so, and .52 s on two devices of one thread each. Memory that is
given back to the system after every step has to come back page by page, which is a
tenth of such a step.
"""

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from ssl_jax import algorithms
from ssl_jax.errors import UserError
from ssl_jax.workdir import settings

FEWEST = 8  # images of a batch that a device is worth its exchanges for
_EIGEN = "--xla_cpu_multi_thread_eigen=false"
_DEVICES = "--xla_force_host_platform_device_count"
# Of mallopt(3): memory comes from one heap, which keeps what it has grown to.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def spread(configs: Sequence[ConfigDict], processes: int = 1) -> None:
    """Makes devices of them, before JAX starts any, where there is no accelerator: as
    many as all `configs` can have.

    Whoever has told XLA of a number of CPU devices is obeyed.

    Raises:
      UserError: as `devices`.
    """
    count = min(devices(config, cores(), processes) for config in configs)
    told = os.environ.get("XLA_FLAGS", "")
    if accelerated():
        return
    _keep_memory()
    if _DEVICES in told:
        return
    jax.config.update("jax_num_cpu_devices", count)
    if count == cores() > 1:  # no thread is left for a pool
        os.environ["XLA_FLAGS"] = f"{told} {_EIGEN}".strip()
        os.environ.setdefault("NPROC", "1")


def devices(config: ConfigDict, cores: int, processes: int = 1) -> int:
    """`config.cpu_devices`; or where that is 0 the most, a power of 2 and not above
    the cores, that divide every phase's batch and leave each `FEWEST` images of it.

    One, where many seeds are one program or every step sees the whole data.

    Raises:
      UserError: cpu_devices is negative.
    """
    given = config.get("cpu_devices", 0)  # a run of another version has none
    if given < 0:
        raise UserError(
            f"cpu_devices={given} must be at least 0: 0 takes as many cores as divide "
            "the batch."
        )
    phases = [config.get(name, {}) for name in config.phases]
    phases = [phase for phase in phases if settings.trains(phase)]
    if given or config.num_seeds > 1 or not phases:
        return max(given, 1)
    if any(_sees_all(phase) for phase in phases):
        return 1
    parts, count = config.get("accumulate", 1), 1
    while 2 * count <= cores and all(
        _divides(2 * count * processes, phase, parts) for phase in phases
    ):
        count *= 2
    return count


def cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def accelerated() -> bool:
    """Whether JAX may find something else than a CPU."""
    asked = jax.config.jax_platforms
    if asked:
        return asked != "cpu"
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    modules = "jax_plugins", "libtpu"  # JAX finds a TPU by no plugin
    return bool(plugins) or any(map(importlib.util.find_spec, modules))


def _sees_all(phase):
    return algorithms.find(phase.algorithm.name).draws_from in ("pool", "graph")


def _divides(count, phase, parts):
    size = phase.batch_size
    return size >= FEWEST * count and size % (count * max(parts, 1)) == 0


def _keep_memory():
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, -1)
        libc.mallopt(_ARENA_MAX, 1)
