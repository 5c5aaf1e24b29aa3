"""What JAX is told of the whole process, before its devices start."""

import os

from ml_collections import ConfigDict

from ssl_jax.train import sections


def set_up(config: ConfigDict) -> None:
    """Of each run once, between its command line and the first use of a device.

    What JAX reads from the environment as its devices start goes there, behind what the
    user has put there.
    """
    if config.deterministic:
        _add_xla_flag(sections.DETERMINISTIC)


def _add_xla_flag(flag):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
