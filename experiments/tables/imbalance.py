"""Classes that are rarer: FixMatch, and its remedies for them, on digits and CIFAR-10.

python -m experiments.tables.imbalance                     # digits, 20 and 100, 5 seeds
python -m experiments.tables.imbalance --data=cifar10 --data_dir=...
    [--method=logit_adjustment] [--gamma=100] [--seeds=0,1,2]

The first class is gamma times as frequent as the last, among the labeled images and
among the others. Digits have as few labels as leave the last class one; CIFAR-10 USB's,
500 of the first class and 4,000 images without, twice as many of those a step, and the
small network for 2,000 steps.
The runs are <method>_<data>-<gamma>; see jobs.py.
"""

import importlib
from collections.abc import Iterator, Sequence

from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from ssl_jax.report import formats, tables
from ssl_jax.workdir.results import Table

REMEDIES = ("logit_adjustment", "abc", "darp", "crest", "daso")  # words of configs/
# FixMatch with weak and strong views in one pass, as DASO has them here: how much of
# what DASO gains is that.
ONE_PASS = "fixmatch_one_pass"
METHODS = ("fixmatch", ONE_PASS, *REMEDIES)
DATA = ("digits", "cifar10")
STEPS = 2000  # on CIFAR-10
FIGURES = {  # of a result's "test"
    "balanced_accuracy": "balanced accuracy",
    "geometric_mean": "geometric mean",
    "f1": "F1",
}


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_enum("data", "digits", DATA, "data set", to)
    flags.DEFINE_multi_enum("method", METHODS, METHODS, "which to run", to)
    flags.DEFINE_multi_integer(
        "gamma", [20, 100], "imbalances to run", lower_bound=2, flag_values=to
    )
    command.define_flags(to)


def main(given: flags.FlagValues) -> None:
    results = jobs.collect("imbalance", given, chosen(given))
    if results is not None:
        jobs.show(given, {"digits": digits, "cifar10": cifar10}[given.data](results))


def chosen(given: flags.FlagValues) -> Iterator[tuple[str, ConfigDict]]:
    """(run, config)."""
    for seed in command.parse_seeds(given.seeds):
        for gamma in given.gamma:
            for method in given.method:
                config = configure(given.data, method, gamma, seed)
                yield f"{method}_{given.data}-{gamma}", config


def configure(data: str, method: str, gamma: int, seed: int) -> ConfigDict:
    values = {
        "seed": seed,
        "tensorboard": False,
        "data.imbalance": "exponential",
        "data.gamma_labeled": float(gamma),
        "data.gamma_unlabeled": float(gamma),
    }
    if method == ONE_PASS:
        method = "fixmatch"
        values["name"] = f"{ONE_PASS}_{data}"
        values["train.algorithm.weak_gradient"] = True
    if data == "digits":
        values["data.num_labels"] = 10 * gamma
        return jobs.load(f"digits:{method}", values)
    values |= {"data.num_labels": 5000, "data.num_unlabeled": 40_000}
    config = jobs.load(f"cifar10:{method},lt,small", values)
    short = importlib.import_module("configs.methods").short(STEPS)
    for name in config.phases:
        config[name].steps = STEPS
        fields = short.get(method, {}).items()
        config.update_from_flattened_dict(
            {field.replace("train", name, 1): value for field, value in fields}
        )
    return config


def digits(results: Table) -> str:
    """Of docs/results.md."""
    return table(on("digits", results))


def cifar10(results: Table) -> str:
    """Of docs/results.md."""
    return table(on("cifar10", results))


def on(data: str, results: Table) -> list[dict]:
    """The results on this data set."""
    found = [result for runs in results.values() for result in runs]
    return [result for result in found if result["config"]["data"]["name"] == data]


def method_of(result: dict) -> str:
    """What `configure` calls it."""
    return tables.method_and_data(result["config"])[0]


def table(results: Sequence[dict]) -> str:
    """A row for each imbalance and method, FixMatch first."""
    found = {}  # (gamma, method) -> {seed: result}
    for result in results:
        key = int(result["config"]["data"]["gamma_labeled"]), method_of(result)
        found.setdefault(key, {})[result["seed"]] = result
    if not found:
        return "Not measured yet."
    rows = []
    for gamma in sorted({gamma for gamma, _ in found}):
        of = {method: runs for (at, method), runs in found.items() if at == gamma}
        above = gains(of)
        for method in sorted(of, key=METHODS.index):
            runs = [*of[method].values()]
            figures = [
                formats.mean_std([run["test"][name] for run in runs])
                for name in FIGURES
            ]
            gap = ""
            if method in above:
                gained, p = above[method]
                gap = f"{formats.mean_std(gained)}, p {formats.p_value(p)}"
            steps = f"{min(map(tables.steps, runs)):,}"
            rows.append([str(gamma), _images(runs[0]), method, *figures, gap, steps])
    caption = (
        "Test figures in % of the last checkpoint, mean ± std (seeds); and points of "
        "balanced accuracy above FixMatch with the same seeds, with the p-value of the "
        "paired t-test corrected by Holm over those beside it:"
    )
    header = ["imbalance", "labels, and images without", "method", *FIGURES.values()]
    header += ["above FixMatch", "steps"]
    return f"{caption}\n\n{formats.markdown_table(header, rows)}"


def gains(
    of: dict[str, dict[int, dict]],
) -> dict[str, tuple[list[float], float | None]]:
    """Of each method but FixMatch: what it is above that in balanced accuracy, for each
    seed that both have, and the corrected p of that.

    Args:
      of: method -> {seed: result}, of one imbalance.
    """
    accuracy = {
        method: {seed: run["test"]["balanced_accuracy"] for seed, run in runs.items()}
        for method, runs in of.items()
    }
    floor = accuracy.pop("fixmatch", {})
    return tables.paired_by_seed({name: (its, floor) for name, its in accuracy.items()})


def _images(result):
    data = result["data"]
    return f"{sum(data['classes'].values()):,} and {data['unlabeled']:,}"


if __name__ == "__main__":
    command.start("imbalance", main, define_flags)
