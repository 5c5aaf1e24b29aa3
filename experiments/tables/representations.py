"""Methods that learn without labels, each beside its encoder untrained: two tables.

python -m experiments.tables.representations                   # digits, 3 seeds
python -m experiments.tables.representations --data=cifar10 --seeds=0 --data_dir=...
python -m experiments.tables.representations --method=simclr --method=dino --seeds=0

The runs are <method>_<data>: byol_digits:<method> and byol_cifar10:<method>,small,
which share data, steps and batches, and their network but for mae; see jobs.py.
"""

from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from ssl_jax.report import formats, tables
from ssl_jax.workdir.results import Table

METHODS = (
    *("byol", "simsiam", "simclr", "moco"),
    *("barlow_twins", "vicreg", "swav", "dino", "mae"),
)
CONFIGS = {"digits": "byol_digits:{}", "cifar10": "byol_cifar10:{},small"}
NAMES = {"digits": "Digits", "cifar10": "CIFAR-10, a small network"}
PROBES = {"knn_5": "5-NN", "logistic": "linear"}


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_enum("data", "digits", list(CONFIGS), "data set", to)
    flags.DEFINE_multi_enum("method", list(METHODS), list(METHODS), "which to run", to)
    command.define_flags(to, seeds="0,1,2")


def main(given: flags.FlagValues) -> None:
    seeds = command.parse_seeds(given.seeds)
    chosen = (
        (f"{method}_{given.data}", configure(given.data, method, seed))
        for seed in seeds
        for method in given.method
    )
    results = jobs.collect("representations", given, chosen)
    if results is not None:
        jobs.show(given, table(results, given.data))


def configure(data: str, method: str, seed: int) -> ConfigDict:
    values = {"seed": seed, "tensorboard": False}
    if data == "digits":  # without the labels alone, which are the same for all
        values["phases"] = ("pretrain", "probe")
    return jobs.load(CONFIGS[data].format(method), values)


def accuracies(results: list[dict], probe: str) -> dict[str, list[float]]:
    """Of a run's seeds: {"learned": test accuracies by the probe, "random": those of
    the untrained encoder, "gain": the points that each seed's is above that}."""
    found = {
        features: [result["probe"][features][probe]["accuracy"] for result in results]
        for features in ("learned", "random")
    }
    pairs = zip(found["learned"], found["random"], strict=True)
    return found | {"gain": [learned - random for learned, random in pairs]}


def digits(results: Table) -> str:
    """Of docs/results.md."""
    return table(results, "digits")


def cifar10(results: Table) -> str:
    """Of docs/results.md."""
    return table(results, "cifar10")


def table(results: Table, data: str) -> str:
    """The methods that there are results of, in the order of METHODS."""
    runs = {method: results.get(f"{method}_{data}", []) for method in METHODS}
    rows, labels = [], set()
    for method, found in runs.items():
        if not found:
            continue
        cells = []
        for probe in PROBES:
            accuracy = accuracies(found, probe)
            cells += [formats.mean_std(values) for values in accuracy.values()]
        phases = [result["phases"]["pretrain"] for result in found]
        (steps,) = {phase["steps"] for phase in phases}
        seconds = max(tables.seconds([phase]) for phase in phases)
        rows.append([method, *cells, f"{steps:,}", f"{seconds / 60:.0f}"])
        labels |= {result["phases"]["probe"]["labels"] for result in found}
    if not rows:
        return "Not measured yet."
    if pixels := _of_pixels(runs):
        cells = [[formats.mean_std(pixels[probe]), "", ""] for probe in PROBES]
        rows.append(["raw pixels", *sum(cells, []), "", ""])
    said = " or ".join(f"{number:,}" for number in sorted(labels))
    caption = (
        f"{NAMES[data]}: test accuracy in % of 5-NN and of logistic regression on the "
        f"frozen features with {said} labels, mean ± std (seeds); of the same encoder "
        "untrained; and the points between them. Minutes are the pretraining's, with "
        "compiling:"
    )
    beside = [[name, "untrained", "gain"] for name in PROBES.values()]
    header = ["method", *sum(beside, []), "steps", "minutes, slowest"]
    return f"{caption}\n\n{formats.markdown_table(header, rows)}"


def _of_pixels(runs):
    """{probe: test accuracies, of each seed}, which are those of all methods; {} where
    pixels were not probed."""
    of_seed = {
        result["seed"]: result["probe"]["pixels"]
        for found in runs.values()
        for result in found
        if "pixels" in result["probe"]
    }
    return of_seed and {
        probe: [its[probe]["accuracy"] for its in of_seed.values()] for probe in PROBES
    }


if __name__ == "__main__":
    command.start("representations", main, define_flags)
