"""BYOL on CIFAR-10 for half an hour on two CPU cores: README's curve and table.

python -m experiments.byol_cifar10_small --data_dir=...

The run is what launch.py would train with configs/byol_cifar10.py:small, in
runs/byol_cifar10_small-seed0. Its result, journal and figures go to
experiments/results/byol_cifar10_small/, the table to the terminal and to README.md.
"""

import shutil
from pathlib import Path

from absl import app, logging

from configs import byol_cifar10
from experiments import runs
from ssl_jax.report import formats, summary
from ssl_jax.workdir.files import write_json

RESULTS = Path("experiments/results/byol_cifar10_small")
WORKDIR = Path("runs/byol_cifar10_small-seed0")
FIGURES = (
    *("pretrain_representation", "pretrain_views"),
    *("probe_feature_map", "probe_neighbors"),
)


def main(_):
    logging.set_verbosity(logging.WARNING)
    result = runs.train(byol_cifar10.get_config("small"), WORKDIR)
    if result is None:
        return  # stopped by a signal; the same command goes on
    (RESULTS / "figures").mkdir(parents=True, exist_ok=True)
    write_json(RESULTS / "result.json", result)
    shutil.copy(WORKDIR / "metrics.jsonl", RESULTS)
    for name in FIGURES:
        shutil.copy(WORKDIR / "figures" / f"{name}.png", RESULTS / "figures")
    print(table(result))
    formats.into_readme("byol_cifar10_small", table(result))


def table(result: dict) -> str:
    pretrain = result["phases"]["pretrain"]
    caption = (
        f"Test accuracy in %, 1 seed, {pretrain['steps']:,} steps of "
        f"{result['config']['pretrain']['batch_size']} images:"
    )
    return f"{caption}\n\n{summary.probe_table(result['probe'])}"


if __name__ == "__main__":
    app.run(main)
