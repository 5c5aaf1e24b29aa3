"""BYOL on CIFAR-10 for half an hour on two CPU cores: a curve and a table.

python -m experiments.tables.byol_cifar10_small --data_dir=...

There is one run, "byol", of configs/byol_cifar10.py:small, with one seed, 0; see
jobs.py. Its journal and figures go to <results>/byol_cifar10_small/.
"""

import shutil
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from ssl_jax.report import summary
from ssl_jax.workdir.results import Table

FIGURES = (
    *("pretrain_representation", "pretrain_views"),
    *("probe_feature_map", "probe_neighbors"),
)


def define_flags(to: flags.FlagValues) -> None:
    command.define_flags(to, seeds="")


def main(given: flags.FlagValues) -> None:
    chosen = [("byol", configure())]
    results = jobs.collect("byol_cifar10_small", given, chosen, shown=copy)
    if results is not None:
        jobs.show(given, table(results))


def configure() -> ConfigDict:
    return jobs.load("byol_cifar10:small")


def copy(run: str, workdir: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(workdir / "metrics.jsonl", folder / f"{run}_metrics.jsonl")
    for name in FIGURES:
        shutil.copy(workdir / "figures" / f"{name}.png", folder)


def table(results: Table) -> str:
    (result,) = results["byol"]
    pretrain = result["phases"]["pretrain"]
    caption = (
        f"Test accuracy in %, 1 seed, {pretrain['steps']:,} steps of "
        f"{result['config']['pretrain']['batch_size']} images:"
    )
    return f"{caption}\n\n{summary.probe_table(result['probe'])}"


if __name__ == "__main__":
    command.start("byol_cifar10_small", main, define_flags)
