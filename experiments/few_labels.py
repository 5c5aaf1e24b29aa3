"""Supervised and FixMatch with few labels: the README's tables.

python -m experiments.few_labels                    # digits, 20 and 40 labels, 5 seeds
python -m experiments.few_labels --data=mnist --labels=100 --seeds=0 --data_dir=...
python -m experiments.few_labels --seeds=0 --labels=40 --results=runs/quickstart

Each run is what launch.py would train, in runs/few_labels/<name>-<labels>-seed<seed>;
what is finished there is not run again. The result.json files go to
<results>/<data>/, the table to the terminal and, where the results are the committed
ones, to README.md.
"""

import importlib
import json
import sys
from pathlib import Path
from statistics import fmean

from absl import app, flags, logging
from ml_collections import ConfigDict

from ssl_jax import loop, report
from ssl_jax.checkpoints import write_json
from ssl_jax.core import UserError

COMMITTED = Path("experiments/results/few_labels")
METHODS = ("supervised", "fixmatch")

DATA = flags.DEFINE_enum("data", "digits", ["digits", "mnist"], "data set")
SEEDS = flags.DEFINE_list("seeds", "0,1,2,3,4", "seeds to run")
LABELS = flags.DEFINE_list("labels", "20,40", "numbers of labels to run")
DATA_DIR = flags.DEFINE_string("data_dir", "", "as config.data.dir")
RESULTS = flags.DEFINE_string("results", str(COMMITTED), "folder for result.json files")


def main(_):
    logging.set_verbosity(logging.WARNING)
    folder = Path(RESULTS.value) / DATA.value
    folder.mkdir(parents=True, exist_ok=True)
    for num_labels in map(int, LABELS.value):
        for seed in map(int, SEEDS.value):
            for method in METHODS:
                name = f"{method}_{DATA.value}"
                result = run(name, num_labels, seed)
                if result is None:
                    return  # stopped by a signal; the same command goes on
                write_json(folder / f"{name}-{num_labels}-seed{seed}.json", result)
    results = read(folder)
    print(table(results))
    if folder.parent == COMMITTED:
        report.into_readme(DATA.value, table(results))
        if DATA.value == "digits":  # what the README's first command prints
            first = [r for r in results if r["seed"] == 0 and _labels(r) == 40]
            report.into_readme("quickstart", table(first))


def configure(name: str, num_labels: int, seed: int) -> ConfigDict:
    config = importlib.import_module(f"configs.{name}").get_config()
    config.seed, config.tensorboard = seed, False
    config.data.num_labels = num_labels
    return config


def run(name: str, num_labels: int, seed: int) -> dict | None:
    config = configure(name, num_labels, seed)
    config.data.dir = DATA_DIR.value
    workdir = Path(f"runs/few_labels/{name}-{num_labels}-seed{seed}")
    print(f"workdir {workdir}", flush=True)
    try:
        return loop.run(config, workdir)
    except UserError as error:
        print(f"few_labels: {error}", file=sys.stderr)
        sys.exit(2)


def read(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def errors(results: list[dict]) -> dict[tuple[int, str], list[float]]:
    """(labels, method) -> the test errors of its seeds, by the last checkpoint."""
    errors = {}
    for result in results:
        key = _labels(result), result["name"].partition("_")[0]
        errors.setdefault(key, []).append(1 - result["test"]["accuracy"])
    return errors


def table(results: list[dict]) -> str:
    """Test error in %, mean ± std (seeds), a row for each number of labels."""
    by_method = errors(results)
    rows = []
    for labels in sorted({labels for labels, _ in by_method}):
        floor, fixmatch = (by_method[labels, method] for method in METHODS)
        gap = 100 * (fmean(floor) - fmean(fixmatch))
        left = f"{fmean(fixmatch) / fmean(floor):.0%}"
        row = [report.mean_std(floor), report.mean_std(fixmatch)]
        rows.append([str(labels), *row, f"{gap:.2f}", left])
    header = ["labels", "supervised", "FixMatch", "gap, points", "errors left"]
    (steps,) = {result["phases"]["train"]["steps"] for result in results}
    caption = f"Test error in %, mean ± std (seeds), {steps:,} steps each:"
    return f"{caption}\n\n{report.markdown_table(header, rows)}"


def _labels(result):
    return result["config"]["data"]["num_labels"]


if __name__ == "__main__":
    app.run(main)
