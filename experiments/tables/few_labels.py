"""Supervised and FixMatch with few labels: tables of README and docs/results.md.

python -m experiments.tables.few_labels             # digits, 20 and 40 labels, 5 seeds
python -m experiments.tables.few_labels --data=mnist --labels=100 --seeds=0
    --data_dir=...
python -m experiments.tables.few_labels --seeds=0 --labels=40 --floors=strong
    --results=runs/quickstart                       # README's first command

There are two floors: supervised training on the weak and on the strong view. The runs
are <method>_<data>-<labels>, where a floor's method is its view; see jobs.py.
"""

from collections.abc import Iterator
from statistics import fmean

from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from ssl_jax.report import formats
from ssl_jax.workdir.results import Table

FLOORS = {"weak": False, "strong": True}  # view -> Supervised.strong
DATA = ("digits", "mnist")


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_enum("data", "digits", DATA, "data set", to)
    flags.DEFINE_list("labels", "20,40", "numbers of labels to run", to)
    flags.DEFINE_list("floors", "weak,strong", "views of the floors to run", to)
    command.define_flags(to)


def main(given: flags.FlagValues) -> None:
    results = jobs.collect("few_labels", given, chosen(given))
    if results is not None:
        jobs.show(given, {"digits": digits, "mnist": mnist}[given.data](results))


def chosen(given: flags.FlagValues) -> Iterator[tuple[str, ConfigDict]]:
    """(run, config)."""
    for labels in map(int, given.labels):
        for seed in command.parse_seeds(given.seeds):
            for method in ("fixmatch", *given.floors):
                config = configure(given.data, method, labels, seed)
                yield f"{method}_{given.data}-{labels}", config


def configure(data: str, method: str, num_labels: int, seed: int) -> ConfigDict:
    """`method`: "fixmatch", or the view of a floor."""
    values = {"seed": seed, "tensorboard": False, "data.num_labels": num_labels}
    if method not in FLOORS:
        return jobs.load(f"{data}:fixmatch", values)
    values["train.algorithm.strong"] = FLOORS[method]
    return jobs.load(f"{data}:supervised", values)


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


def digits(results: Table) -> str:
    """Of docs/results.md."""
    return table(on("digits", results))


def mnist(results: Table) -> str:
    """Of docs/results.md."""
    return table(on("mnist", results))


def quickstart(results: Table) -> str:
    """What README's first command prints."""
    found = on("digits", results)
    return table(
        [
            result
            for result in found
            if (result["seed"], _labels(result)) == (0, 40)
            and method_of(result) != "weak"
        ]
    )


def on(data: str, results: Table) -> list[dict]:
    """The results on this data set."""
    found = [result for runs in results.values() for result in runs]
    return [result for result in found if result["config"]["data"]["name"] == data]


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
    command.start("few_labels", main, define_flags)
