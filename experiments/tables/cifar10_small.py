"""FixMatch and its kin against supervised on CIFAR-10 with 4,000 labels, on a CPU.

python -m experiments.tables.cifar10_small --data_dir=... [--method=flexmatch]

A small network and 16,000 steps: one to three hours a method on one core, minutes for
supervised, with the same labels, network and steps. The runs are the methods, with one
seed, 0; see jobs.py. Their journals and figures go to <results>/cifar10_small/. Nothing
here compares with a published number: those have 66 times as many steps, a batch twice
as large and a WRN-28-2.
"""

import shutil
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from ssl_jax.report import formats, tables
from ssl_jax.report.figures import curves
from ssl_jax.workdir.files import write_figure
from ssl_jax.workdir.journal import Journal
from ssl_jax.workdir.results import Table

METHODS = ("supervised", "fixmatch", "flexmatch", "comatch", "simmatch")
FIGURES = ("pseudo_labels", "pseudo_label_classes", "reliability")


def define_flags(to: flags.FlagValues) -> None:
    said = "methods to train; the table has all that lie there"
    flags.DEFINE_multi_enum("method", METHODS, METHODS, said, to)
    command.define_flags(to, seeds="")


def main(given: flags.FlagValues) -> None:
    chosen = ((method, configure(method)) for method in given.method)
    results = jobs.collect("cifar10_small", given, chosen, shown=copy)
    if results is None:
        return
    folder = Path(given.results) / "cifar10_small"
    journals = {m: folder / f"{m}_metrics.jsonl" for m in methods(results)}
    rows_of = {method: Journal(path).rows() for method, path in journals.items()}
    title = "CIFAR-10, 4,000 labels, a small network"
    compared = curves.comparison(rows_of, title)
    write_figure(folder / "test_accuracy_comparison.png", compared)
    jobs.show(given, table(results))


def copy(method: str, workdir: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(workdir / "metrics.jsonl", folder / f"{method}_metrics.jsonl")
    for name in FIGURES:
        figure = workdir / "figures" / f"train_{name}.png"
        if figure.exists():
            shutil.copy(figure, folder / f"{method}_{name}.png")


def configure(method: str) -> ConfigDict:
    return jobs.load(f"cifar10:{method},small", {"data.num_labels": 4000})


def methods(results: Table) -> list[str]:
    """Those that there are results of, in the table's order."""
    return [method for method in METHODS if method in results]


def table(results: Table) -> str:
    rows, evaluations = [], set()
    for method in methods(results):
        (result,) = results[method]
        phase = result["phases"]["train"]
        test = phase["test"]
        evaluations.add(min(test["evaluations"], tables.MEDIAN_OF))
        rows.append(
            [
                method,
                f"{100 - 100 * test['accuracy']:.2f}",
                f"{100 - 100 * test['accuracy_median20']:.2f}",
                f"{phase['steps']:,}",
                f"{tables.seconds([phase]) / 60:.0f}",
            ]
        )
    median = f"median of {', '.join(map(str, sorted(evaluations)))}"
    header = ["method", "last", median, "steps", "minutes"]
    caption = "Test error in %, 1 seed, 4,000 labels; minutes with compiling:"
    return f"{caption}\n\n{formats.markdown_table(header, rows)}"


if __name__ == "__main__":
    command.start("cifar10_small", main, define_flags)
