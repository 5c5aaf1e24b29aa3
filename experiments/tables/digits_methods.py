"""Every semi-supervised method on digits with 40 labels: README's table.

python -m experiments.tables.digits_methods [--methods=fixmatch,flexmatch]
    [--seeds=0,1,2,3,4]

The runs are the methods that configs/digits.py takes, but for those that imbalance.py
is of: where classes are even, these have nothing to make up for. See jobs.py.
"""

import importlib

from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from experiments.tables import imbalance
from ssl_jax.errors import UserError
from ssl_jax.report import formats, tables
from ssl_jax.workdir.results import Table


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_list("methods", "", "methods to run; default: all", to)
    command.define_flags(to)


def main(given: flags.FlagValues) -> None:
    wanted = choose(given.methods)
    seeds = command.parse_seeds(given.seeds)
    chosen = ((m, configure(m, seed)) for seed in seeds for m in wanted)
    results = jobs.collect("digits_methods", given, chosen)
    if results is not None:
        jobs.show(given, table(results))


def methods() -> list[str]:
    """That configs/digits.py takes, without remedies for rare classes; they draw
    labeled images."""
    names = importlib.import_module("configs.methods").names()
    return [name for name in names if name not in imbalance.REMEDIES]


def choose(only: list[str]) -> list[str]:
    """Those of `methods` that are named; without any, all.

    Raises:
      UserError: one is not there.
    """
    known = methods()
    if unknown := set(only) - {*known}:
        raise UserError(
            f"--methods={','.join(only)}: there is no {', '.join(sorted(unknown))}; "
            f"there are: {', '.join(known)}."
        )
    return only or known


def configure(method: str, seed: int) -> ConfigDict:
    values = {"seed": seed, "tensorboard": False, "data.num_labels": 40}
    return jobs.load(f"digits:{method}", values)


def table(results: Table) -> str:
    """Test error in %, mean ± std (seeds), the method with the fewest errors first."""
    found = [result for runs in results.values() for result in runs]
    baselines = ("supervised", "fixmatch")
    by_supervised, by_fixmatch = (
        {
            row.method: row
            for row in tables.compare(found, baseline, figures=["accuracy"])
        }
        for baseline in baselines
    )
    lines = [
        [
            row.method,
            formats.mean_std(row.errors, scale=1),
            formats.against(by_supervised[row.method]),
            formats.against(row),
            formats.progress(row),
        ]
        for row in sorted(by_fixmatch.values(), key=lambda row: row.mean)
    ]
    caption = (
        "Digits, 40 labels: test error in % of the last checkpoint, mean ± std "
        "(seeds); differences in points, with Welch's p corrected by Holm over the "
        "methods:"
    )
    against = [f"against {baseline}" for baseline in baselines]
    header = ["method", "test error", *against, "steps"]
    return f"{caption}\n\n{formats.markdown_table(header, lines)}"


if __name__ == "__main__":
    command.start("digits_methods", main, define_flags)
