"""BYOL on digits, probed with 40 labels, against the same labels alone: README's table.

python -m experiments.byol_digits [--seeds=0,1,2,3,4]

Each run is what launch.py would train with configs/byol_digits.py, in
runs/byol_digits/seed<seed>; what is finished there is not run again. The
result.json files go to experiments/results/byol_digits/, the table to the terminal and
to README.md.
"""

from pathlib import Path

from absl import app, logging

from configs import byol_digits
from experiments import runs
from ssl_jax.report import formats
from ssl_jax.workdir.files import write_json

RESULTS = Path("experiments/results/byol_digits")
ROWS = {  # features -> what the table calls them
    "learned": "BYOL's encoder, frozen",
    "random": "the encoder untrained, frozen",
    "pixels": "raw pixels",
}


def main(_):
    logging.set_verbosity(logging.WARNING)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in runs.SEEDS.value:
        config = configure(int(seed))
        result = runs.train(config, Path("runs/byol_digits") / f"seed{seed}")
        if result is None:
            return  # stopped by a signal; the same command goes on
        write_json(RESULTS / f"seed{seed}.json", result)
    results = runs.read(RESULTS)
    print(table(results))
    formats.into_readme("byol_digits", table(results))


def configure(seed: int):
    config = byol_digits.get_config()
    config.seed, config.tensorboard = seed, False
    return config


def accuracies(results: list[dict]) -> dict[str, list[float]]:
    """Row of the table -> test accuracy of each seed."""
    found = {
        label: [result["probe"][name]["logistic"]["accuracy"] for result in results]
        for name, label in ROWS.items()
    }
    alone = [result["phases"]["supervised"]["test"]["accuracy"] for result in results]
    return found | {"the encoder trained on the 40 labels alone": alone}


def table(results: list[dict]) -> str:
    rows = [
        [label, formats.mean_std(values)]
        for label, values in accuracies(results).items()
    ]
    seconds = max(
        sum(phase["seconds"] + phase.get("compile_seconds", 0) for phase in phases)
        for phases in ([*result["phases"].values()] for result in results)
    )
    caption = (
        f"Test accuracy in %, mean ± std (seeds), 40 labels; the slowest seed took "
        f"{seconds:.0f} s on two cores, everything counted:"
    )
    header = ["features", "accuracy"]
    return f"{caption}\n\n{formats.markdown_table(header, rows)}"


if __name__ == "__main__":
    app.run(main)
