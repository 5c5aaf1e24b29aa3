"""The runs of a paper's table: listed, trained one after another, and made a table.

An experiment is a list of `Run`s and a call of `main`, such as byol_cifar10.py:

python -m experiments.byol_cifar10 --dry_run        # which runs, and how many hours
python -m experiments.byol_cifar10 --only=simsiam --seeds=0
python -m experiments.byol_cifar10 --task=1/2       # every second run, from the first
python -m experiments.byol_cifar10 --debug          # all of it in minutes, on digits

On a machine with two GPUs, run --task=1/2 with CUDA_VISIBLE_DEVICES=0 and --task=2/2
with CUDA_VISIBLE_DEVICES=1; byol_cifar10.sbatch does the like in a SLURM job array.

Each run is what launch.py would train, in runs/<experiment>/<run>-seed<seed>: what is
finished there is not run again, and what was stopped or failed goes on. The result.json
files go to <results>/<experiment>/, and the table is made of all that lie there.
"""

import functools
import importlib
import json
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from absl import app, flags, logging
from ml_collections import ConfigDict

from ssl_jax import loop, report, workdirs
from ssl_jax.checkpoints import write_json
from ssl_jax.core import UserError

COMMITTED = Path("experiments/results")


class Cell(NamedTuple):
    """One entry of a table."""

    read: Callable[[dict], float]  # the figure in a result.json, as a share
    published: str = ""  # in %, each with its source and length


class Run(NamedTuple):
    """What is trained once for each seed."""

    name: str  # of its workdirs and results, and for --only
    row: str  # of the table; runs may share one
    config: str  # a file in configs/ and its words: "byol_stl10:paper96"
    cells: Mapping[str, Cell]  # by column
    hours: float  # of one seed on one GPU: an estimate
    overrides: Mapping[str, object] = MappingProxyType({})  # dotted field -> value
    # "<name>/<phase>" of a run before it in the list: train.start_from, for each seed
    # from the run with that seed.
    start_from: str = ""


class Job(NamedTuple):
    """A run with one seed."""

    name: str
    config: ConfigDict
    command: str  # which trains the same without this file
    workdir: Path
    hours: float
    needs: Path | None  # the folder of the phase that it starts from


def main(experiment: str, tables: Mapping[str, Sequence[Run]], gpu: str) -> None:
    """The program: trains what the flags choose, and prints the tables.

    Args:
      tables: caption -> runs. Names are unique over all tables.
      gpu: what `hours` are estimated for, and from what.
    """
    # Defined here and not above: other experiments have flags of the same names.
    flags.DEFINE_bool("dry_run", False, "print what would run, and stop")
    flags.DEFINE_list("only", "", "rows: parts of their names or labels; default: all")
    flags.DEFINE_list("seeds", "0,1,2", "seeds to run")
    flags.DEFINE_string("task", "1/1", "i/n: every n-th run, from the i-th")
    flags.DEFINE_string("data_dir", "", "as config.data.dir")
    flags.DEFINE_string("results", str(COMMITTED), "folder for result.json files")
    flags.DEFINE_bool("debug", False, "configs with :debug: seconds a run, on digits")
    for name in sys.modules[__name__].__dict__["FLAGS"]:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    app.run(lambda _: None)
