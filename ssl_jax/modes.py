"""What launch.py can do, one function each: (config, workdir) -> None.

A new mode is one function here and its line in MODES.
"""

from pathlib import Path

from ml_collections import ConfigDict

from ssl_jax import loop, report


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains the config's phases, or goes on where the workdir's run stopped."""
    result = loop.run(config, workdir)
    if result is None:
        print("stopped, and saved; the same command goes on from here")
    else:
        print(report.summary(result))


MODES = {"train": train}
