"""Self-training on MNIST with 10% of the labels: the tutorial, and a strong one.

python -m experiments.tables.pseudo_label_mnist --data_dir=... --seeds=0,1,2
    [--kind=strong]

The runs are configs/pseudo_label_mnist.py, "tutorial", and its "strong"; see jobs.py.
"""

from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from ssl_jax.report import formats, tables
from ssl_jax.workdir.results import Table

WORDS = {"tutorial": "", "strong": ":strong"}
NAMES = {"tutorial": "the tutorial", "strong": "`:strong`"}


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_multi_enum("kind", list(WORDS), list(WORDS), "which to run", to)
    command.define_flags(to)


def main(given: flags.FlagValues) -> None:
    seeds = command.parse_seeds(given.seeds)
    chosen = ((k, configure(k, seed)) for k in given.kind for seed in seeds)
    results = jobs.collect("pseudo_label_mnist", given, chosen)
    if results is not None:
        jobs.show(given, table(results))


def configure(kind: str, seed: int) -> ConfigDict:
    values = {"seed": seed, "tensorboard": False}
    return jobs.load(f"pseudo_label_mnist{WORDS[kind]}", values)


def accuracies(results: list[dict]) -> tuple[list[float], list[float]]:
    """Of the first phase, on labels alone, and of the last, on pseudo-labels too."""
    phases = [list(result["phases"].values()) for result in results]
    first, last = ([run[i]["test"]["accuracy"] for run in phases] for i in (0, -1))
    return first, last


def table(results: Table) -> str:
    lines = []
    for kind in (kind for kind in WORDS if kind in results):
        found = results[kind]
        supervised, ours = accuracies(found)
        gains = [a - b for a, b in zip(ours, supervised, strict=True)]
        phases = [list(result["phases"].values()) for result in found]
        kept = [run[-1]["pseudo_labels"] for run in phases]
        minutes = max(map(tables.seconds, phases)) / 60
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
    caption = (
        "MNIST, 6,000 labels: test accuracy in %, mean ± std (seeds); minutes with "
        "compiling:"
    )
    return f"{caption}\n\n{formats.markdown_table(header, lines)}"


if __name__ == "__main__":
    command.start("pseudo_label_mnist", main, define_flags)
