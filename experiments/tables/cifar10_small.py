"""FixMatch and FlexMatch against supervised on CIFAR-10 with 4,000 labels, on a CPU.

python -m experiments.cifar10_small --data_dir=...

A small network and 16,000 steps: over an hour a method on one core, minutes for
supervised, with the same labels, network and steps. The runs are what launch.py would
train with configs/<method>_cifar10.py:small, in runs/cifar10_small/; what is finished
there is not run again, and what was stopped goes on. Results, journals and figures go
to experiments/results/cifar10_small/, the table to the terminal and to README.md.
There is one seed, 0. Nothing here compares with a published number: those have 66 times
as many steps, a batch twice as large and a WRN-28-2.
"""

import importlib
import json
import shutil
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict

from experiments import runs
from ssl_jax.report import formats
from ssl_jax.report.figures import curves, drawing
from ssl_jax.workdir.files import write_json
from ssl_jax.workdir.journal import Journal

COMMITTED = Path("experiments/results/cifar10_small")
METHODS = ("supervised", "fixmatch", "flexmatch")
FIGURES = ("pseudo_labels", "pseudo_label_classes", "reliability")

METHOD = flags.DEFINE_multi_enum(
    "method", METHODS, METHODS, "methods to train; the table has all that lie there"
)


def main(_):
    logging.set_verbosity(logging.WARNING)
    folder = Path(runs.RESULTS.value or COMMITTED)
    for method in METHOD.value:
        workdir = Path(f"runs/cifar10_small/{method}-seed0")
        result = runs.train(configure(method), workdir)
        if result is None:
            return  # stopped by a signal; the same command goes on
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{method}.json", result)
        shutil.copy(workdir / "metrics.jsonl", folder / f"{method}.jsonl")
        for name in FIGURES:
            figure = workdir / "figures" / f"train_{name}.png"
            if figure.exists():
                shutil.copy(figure, folder / f"{method}_{name}.png")
    results = read(folder)
    rows_of = {method: Journal(folder / f"{method}.jsonl").rows() for method in results}
    title = "CIFAR-10, 4,000 labels, a small network"
    compared = curves.comparison(rows_of, title)
    drawing.save(compared, folder / "test_accuracy", "comparison")
    print(table(results))
    if folder == COMMITTED:
        formats.into_readme("cifar10_small", table(results))


def configure(method: str) -> ConfigDict:
    config = importlib.import_module(f"configs.{method}_cifar10").get_config("small")
    config.data.num_labels = 4000
    return config


def read(folder: Path) -> dict[str, dict]:
    """Method -> its result, of those that are there."""
    paths = {method: folder / f"{method}.json" for method in METHODS}
    return {m: json.loads(p.read_text()) for m, p in paths.items() if p.exists()}


def table(results: dict[str, dict]) -> str:
    rows = []
    for method, result in results.items():
        phase = result["phases"]["train"]
        test = phase["test"]
        rows.append(
            [
                method,
                f"{100 - 100 * test['accuracy']:.2f}",
                f"{100 - 100 * test['accuracy_median20']:.2f}",
                f"{phase['steps']:,}",
                f"{phase['seconds'] / 60:.0f}",
            ]
        )
    header = ["method", "last", "median of 20", "steps", "minutes"]
    caption = "Test error in %, 1 seed, 4,000 labels:"
    return f"{caption}\n\n{formats.markdown_table(header, rows)}"


if __name__ == "__main__":
    app.run(main)
