"""Supervised and FixMatch with few labels: the README's tables.

python -m experiments.few_labels                    # digits, 20 and 40 labels, 5 seeds
python -m experiments.few_labels --data=mnist --labels=100 --seeds=0 --data_dir=...
python -m experiments.few_labels --seeds=0 --labels=40 --floors=strong
    --results=runs/quickstart                       # the README's first command

There are two floors: supervised training on the weak and on the strong view. Each run
is what launch.py would train, in runs/few_labels/<name>-<labels>-seed<seed>; what is
finished there is not run again. The result.json files go to
<results>/<data>/, the table to the terminal and, where the results are the committed
ones, to README.md.
"""

import importlib
from pathlib import Path
from statistics import fmean

from absl import app, flags, logging
from ml_collections import ConfigDict

from experiments import runs
from ssl_jax.report import formats
from ssl_jax.workdir.files import write_json

COMMITTED = Path("experiments/results/few_labels")
FLOORS = {"weak": False, "strong": True}  # view -> Supervised.strong

DATA = flags.DEFINE_enum("data", "digits", ["digits", "mnist"], "data set")
LABELS = flags.DEFINE_list("labels", "20,40", "numbers of labels to run")
FLOORS_RUN = flags.DEFINE_list("floors", "weak,strong", "views of the floors to run")


def main(_):
    logging.set_verbosity(logging.WARNING)
    folder = Path(runs.RESULTS.value or COMMITTED) / DATA.value
    folder.mkdir(parents=True, exist_ok=True)
    for num_labels in map(int, LABELS.value):
        for seed in runs.seeds():
            for method in ("fixmatch", *FLOORS_RUN.value):
                config = configure(DATA.value, method, num_labels, seed)
                name = f"{method}_{DATA.value}-{num_labels}-seed{seed}"
                result = runs.train(config, Path("runs/few_labels") / name)
                if result is None:
                    return  # stopped by a signal; the same command goes on
                name = f"{method}-{num_labels}-seed{seed}.json"
                write_json(folder / name, result)
    results = runs.read(folder)
    print(table(results))
    if folder.parent == COMMITTED:
        formats.into_readme(DATA.value, table(results))
        if DATA.value == "digits":  # what the README's first command prints
            first = [
                result
                for result in results
                if (result["seed"], _labels(result)) == (0, 40)
                and method_of(result) != "weak"
            ]
            formats.into_readme("quickstart", table(first))


def configure(data: str, method: str, num_labels: int, seed: int) -> ConfigDict:
    """`method`: "fixmatch", or the view of a floor."""
    kind = "supervised" if method in FLOORS else "fixmatch"
    config = importlib.import_module(f"configs.{kind}_{data}").get_config()
    if method in FLOORS:
        config.train.algorithm.strong = FLOORS[method]
    config.seed, config.tensorboard = seed, False
    config.data.num_labels = num_labels
    return config


def method_of(result: dict) -> str:
    """What `configure` calls it."""
    algorithm = result["config"]["train"]["algorithm"]
    if "strong" not in algorithm:
        return "fixmatch"
    return "strong" if algorithm["strong"] else "weak"


def errors(results: list[dict]) -> dict[tuple[int, str], list[float]]:
    """(labels, method) -> the test errors of its seeds, by the last checkpoint."""
    found = {}
    for result in results:
        key = _labels(result), method_of(result)
        found.setdefault(key, []).append(1 - result["test"]["accuracy"])
    return found


def table(results: list[dict]) -> str:
    """Test error in %, mean ± std (seeds), a row for each number of labels.

    The gap and the share of errors left are against the floor with fewer errors.
    """
    found = errors(results)
    views = [view for view in FLOORS if any(view == method for _, method in found)]
    rows = []
    for labels in sorted({labels for labels, _ in found}):
        floors, fixmatch = [found[labels, v] for v in views], found[labels, "fixmatch"]
        lowest = min(map(fmean, floors))
        gap = f"{100 * (lowest - fmean(fixmatch)):.2f}"
        left = f"{fmean(fixmatch) / lowest:.0%}"
        cells = [formats.mean_std(values) for values in (*floors, fixmatch)]
        rows.append([str(labels), *cells, gap, left])
    names = [f"supervised, {view} view" for view in views]
    header = ["labels", *names, "FixMatch", "gap, points", "errors left"]
    (steps,) = {result["phases"]["train"]["steps"] for result in results}
    caption = f"Test error in %, mean ± std (seeds), {steps:,} steps each:"
    return f"{caption}\n\n{formats.markdown_table(header, rows)}"


def _labels(result):
    return result["config"]["data"]["num_labels"]


if __name__ == "__main__":
    app.run(main)
