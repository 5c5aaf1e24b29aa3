"""What JAX is told of the whole process, before its devices start."""

import os

import jax
from ml_collections import ConfigDict

from ssl_jax.cli import cores
from ssl_jax.data import cache
from ssl_jax.train import sections
from ssl_jax.workdir import compiled

_COMPILED = 0.1  # share of SSL_JAX_CACHE_GB: a run leaves about a megabyte


def set_up(*configs: ConfigDict, processes: int = 1) -> None:
    """Once, between the command line and the first use of a device; of several runs
    in one process with all their configurations.

    What JAX reads from the environment as its devices start goes there, behind what the
    user has put there.

    Args:
      processes: that train the same run. Several must compile a program for GPUs
        together (XLA shares out its tuning), and one that found it in a folder that
        the others do not have would be waited for in vain.

    Raises:
      UserError: SSL_JAX_CACHE_GB is no size, or cpu_devices no number of devices.
    """
    if any(config.deterministic for config in configs):
        _add_xla_flag(sections.DETERMINISTIC)
    cores.spread(configs, processes)
    if processes == 1:
        keep_compiled()


def keep_compiled() -> None:
    """Has JAX keep what it compiles for the next process, beside the decoded images.

    Whoever has told JAX of another folder, or to keep nothing, is obeyed.

    Raises:
      UserError: SSL_JAX_CACHE_GB is no size.
    """
    told = jax.config.jax_compilation_cache_dir
    if jax.config.jax_enable_compilation_cache and not told:
        compiled.keep(cache.root() / "compiled", _COMPILED * cache.limit())


def _add_xla_flag(flag):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
