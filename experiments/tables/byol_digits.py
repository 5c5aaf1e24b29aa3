"""BYOL on digits, probed with 40 labels, against the same labels alone: a table.

python -m experiments.tables.byol_digits [--seeds=0,1,2,3,4]

There is one run, "byol", of configs/byol_digits.py; see jobs.py.
"""

from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from ssl_jax.report import formats, tables
from ssl_jax.workdir.results import Table

ROWS = {  # features -> what the table calls them
    "learned": "BYOL's encoder, frozen",
    "random": "the encoder untrained, frozen",
    "pixels": "raw pixels",
}


def main(given: flags.FlagValues) -> None:
    seeds = command.parse_seeds(given.seeds)
    chosen = (("byol", configure(seed)) for seed in seeds)
    results = jobs.collect("byol_digits", given, chosen)
    if results is not None:
        jobs.show(given, table(results))


def configure(seed: int) -> ConfigDict:
    return jobs.load("byol_digits", {"seed": seed, "tensorboard": False})


def accuracies(results: list[dict]) -> dict[str, list[float]]:
    """Row of the table -> test accuracy of each seed."""
    found = {
        label: [result["probe"][name]["logistic"]["accuracy"] for result in results]
        for name, label in ROWS.items()
    }
    alone = [result["phases"]["supervised"]["test"]["accuracy"] for result in results]
    return found | {"the encoder trained on the 40 labels alone": alone}


def table(results: Table) -> str:
    found = results["byol"]
    rows = [
        [label, formats.mean_std(values)] for label, values in accuracies(found).items()
    ]
    seconds = max(tables.seconds(result["phases"].values()) for result in found)
    caption = (
        f"Test accuracy in %, mean ± std (seeds), 40 labels; the slowest seed took "
        f"{seconds:.0f} s to train, to evaluate and to probe, with compiling:"
    )
    header = ["features", "accuracy"]
    return f"{caption}\n\n{formats.markdown_table(header, rows)}"


if __name__ == "__main__":
    command.start("byol_digits", main, command.define_flags)
