"""Every semi-supervised method on digits with 40 labels: the README's table.

python -m experiments.digits_methods [--methods=fixmatch,flexmatch] [--seeds=0,1,2,3,4]

The methods are those of configs/<method>_digits.py all of whose phases draw batches of
labeled images. Each run is what launch.py would train, in
runs/digits_methods/<method>-seed<seed>; what is finished there is not run again. The
result.json files go to experiments/results/digits_methods/, the table to the terminal
and, where the results are the committed ones, to README.md.
"""

import importlib
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict

from experiments import runs
from ssl_jax import algorithms
from ssl_jax.errors import UserError
from ssl_jax.report import formats, tables
from ssl_jax.workdir.files import write_json

COMMITTED = Path("experiments/results/digits_methods")
CONFIGS = Path(__file__).parents[1] / "configs"

METHODS = flags.DEFINE_list("methods", "", "methods to run; default: all")


def main(_):
    logging.set_verbosity(logging.WARNING)
    try:
        run(choose(METHODS.value), Path(runs.RESULTS.value or COMMITTED))
    except UserError as error:
        print(f"digits_methods: {error}", file=sys.stderr)
        sys.exit(2)


def run(chosen: list[str], folder: Path) -> None:
    """Trains what is left of these methods, and writes the table of all in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in runs.seeds():
        for method in chosen:
            name = f"{method}-seed{seed}"
            config = configure(method, seed)
            result = runs.train(config, Path("runs/digits_methods") / name)
            if result is None:
                return  # stopped by a signal; the same command goes on
            write_json(folder / f"{name}.json", result)
    results = runs.read(folder)
    print(table(results))
    if folder == COMMITTED:
        formats.into_readme("digits_methods", table(results))


def methods() -> list[str]:
    """Of the configs that are there."""
    found = []
    for file in sorted(CONFIGS.glob("*_digits.py")):
        config = importlib.import_module(f"configs.{file.stem}").get_config()
        trained = [
            config[name] for name in config.phases if "algorithm" in config[name]
        ]
        if {algorithms.draws_from(p.algorithm.name) for p in trained} == {"labeled"}:
            found.append(file.stem.removesuffix("_digits"))
    return found


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
    config = importlib.import_module(f"configs.{method}_digits").get_config()
    config.seed, config.tensorboard = seed, False
    config.data.num_labels = 40
    return config


def table(results: list[dict]) -> str:
    """Test error in %, mean ± std (seeds), the method with the fewest errors first."""
    baselines = ("supervised", "fixmatch")
    by_supervised, by_fixmatch = (
        {
            row.method: row
            for row in tables.compare(results, baseline, figures=["accuracy"])
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
    app.run(main)
