"""Self-training on MNIST with 10% of the labels: the tutorial, and a strong one.

python -m experiments.pseudo_label_mnist --data_dir=... --seeds=0,1,2 [--kind=strong]

The runs are what launch.py would train with configs/pseudo_label_mnist.py and its
`:strong`, in runs/pseudo_label_mnist/; what is finished there is not run again. The
result.json files go to experiments/results/pseudo_label_mnist/, the table to the
terminal and to README.md.
"""

from pathlib import Path

from absl import app, flags, logging
from ml_collections import ConfigDict

from configs import pseudo_label_mnist
from experiments import runs
from ssl_jax.report import formats
from ssl_jax.workdir.files import write_json

COMMITTED = Path("experiments/results/pseudo_label_mnist")
WORDS = {"tutorial": "", "strong": "strong"}
NAMES = {"tutorial": "the tutorial", "strong": "`:strong`"}

KIND = flags.DEFINE_multi_enum("kind", list(WORDS), list(WORDS), "which to run")


def main(_):
    logging.set_verbosity(logging.WARNING)
    folder = Path(runs.RESULTS.value or COMMITTED)
    for kind in KIND.value:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for seed in runs.seeds():
            workdir = Path(f"runs/pseudo_label_mnist/{kind}-seed{seed}")
            result = runs.train(configure(kind, seed), workdir)
            if result is None:
                return  # stopped by a signal; the same command goes on
            write_json(folder / kind / f"seed{seed}.json", result)
    print(table(read(folder)))
    if folder == COMMITTED:
        formats.into_readme("pseudo_label_mnist", table(read(folder)))


def configure(kind: str, seed: int) -> ConfigDict:
    config = pseudo_label_mnist.get_config(WORDS[kind])
    config.seed, config.tensorboard = seed, False
    return config


def read(folder: Path) -> dict[str, list[dict]]:
    """Kind -> the results of its seeds, of those that are there."""
    results = {kind: runs.read(folder / kind) for kind in WORDS}
    return {kind: found for kind, found in results.items() if found}


def accuracies(results: list[dict]) -> tuple[list[float], list[float]]:
    """Of the first phase, on labels alone, and of the last, on pseudo-labels too."""
    phases = [list(result["phases"].values()) for result in results]
    first, last = ([run[i]["test"]["accuracy"] for run in phases] for i in (0, -1))
    return first, last


def table(results: dict[str, list[dict]]) -> str:
    lines = []
    for kind, found in results.items():
        supervised, ours = accuracies(found)
        gains = [a - b for a, b in zip(ours, supervised, strict=True)]
        phases = [list(result["phases"].values()) for result in found]
        kept = [run[-1]["pseudo_labels"] for run in phases]
        minutes = max(sum(phase["seconds"] for phase in run) for run in phases) / 60
        lines.append(
            [
                NAMES[kind],
                formats.mean_std(supervised),
                formats.mean_std(ours),
                formats.mean_std(gains),
                formats.mean_std(entry["share_kept"] for entry in kept),
                formats.mean_std(entry["kept_accuracy"] for entry in kept),
                f"{minutes:.0f}",
            ]
        )
    header = ["", "labels alone", "and pseudo-labels", "gain, points"]
    header += ["kept", "right of the kept", "minutes, slowest"]
    caption = "MNIST, 6,000 labels: test accuracy in %, mean ± std (seeds):"
    return f"{caption}\n\n{formats.markdown_table(header, lines)}"


if __name__ == "__main__":
    app.run(main)
