"""A folder that nobody has seen, and no setting: a table.

python -m experiments.tables.auto_photos --data_dir=... [--seeds=0,1,2] [--run=auto]

For each seed a folder is made of CIFAR-10's images: five classes, 10 labels of each,
500 images without, and 1,000 to test on; of all sizes from 28 to 96 pixels, as JPEG or
PNG, a tenth of them grey. The runs are of configs/auto.py, on the same folder: "auto";
"supervised", which has the labels alone, and fewer steps where these are few; and
"as_long", the same with as many steps as "auto" has; see jobs.py.
"""

import importlib
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from ssl_jax.report import formats, tables
from ssl_jax.workdir.results import Table

RUNS = {  # run -> config, fields
    "auto": ("auto", {}),
    "supervised": ("auto:supervised", {}),
    # A number that is not the one that may follow from the data is the user's.
    "as_long": ("auto:supervised", {"adapt.semi_supervised.steps": 0}),
}
NAMES = {  # in the table, of those that have the labels alone
    "supervised": "`auto:supervised`",
    "as_long": "the same, as many steps",
}
CLASSES = ("airplane", "automobile", "cat", "frog", "horse")
LABELED, UNLABELED, TEST = 10, 100, 200  # of each class
GREY, SIDES = 0.1, (28, 97)


def define_flags(to: flags.FlagValues) -> None:
    said = "which to train; the table has all that lie there"
    flags.DEFINE_multi_enum("run", list(RUNS), list(RUNS), said, to)
    command.define_flags(to)


def main(given: flags.FlagValues) -> None:
    seeds = command.parse_seeds(given.seeds)
    chosen = ((k, configure(k, seed)) for seed in seeds for k in given.run)
    results = jobs.collect("auto_photos", given, chosen, train=make_and_train)
    if results is not None:
        jobs.show(given, table(results))


def configure(kind: str, seed: int) -> ConfigDict:
    config, fields = RUNS[kind]
    return jobs.load(config, {"seed": seed, "tensorboard": False, **fields})


def make_and_train(config: ConfigDict, workdir: Path) -> dict | None:
    """As `jobs.train_phases`, on a folder beside `workdir` that is made of the
    CIFAR-10 in the config's data.dir."""
    # And JAX, here only.
    sources = importlib.import_module("ssl_jax.data.sources")
    folder = workdir.with_name(f"photos-seed{config.seed}")
    if not folder.exists():
        cifar10 = sources.load("cifar10", data_dir=config.data.dir)
        rng = np.random.default_rng([config.seed, LABELED])
        sets = {
            "": (cifar10.images_NHWC, cifar10.labels_N, (LABELED, UNLABELED)),
            "test": (cifar10.test_images_MHWC, cifar10.test_labels_M, (TEST, 0)),
        }
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        for name, (images_NHWC, labels_N, counts) in sets.items():
            for c in CLASSES:
                rows_N = np.flatnonzero(labels_N == cifar10.class_names.index(c))
                drawn_n = rng.permutation(rows_N)[: sum(counts)]
                for i, row in enumerate(drawn_n.tolist()):
                    place = c if i < counts[0] else "unlabeled"
                    save(images_NHWC[row], unfinished / name / place / str(row), rng)
        unfinished.rename(folder)
    config.data.dir = str(folder)
    return jobs.train_phases(config, workdir)


def save(image_HWC: np.ndarray, path: Path, rng: np.random.Generator) -> None:
    """The image as somebody's photo: of another size, JPEG or PNG, perhaps grey."""
    pillow = importlib.import_module("PIL.Image")
    width = int(rng.integers(*SIDES))
    size = width, int(width * rng.uniform(0.8, 1.25))
    image = pillow.fromarray(image_HWC).resize(size, pillow.Resampling.BICUBIC)
    if rng.random() < GREY:
        image = image.convert("L")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(f"{path}{'.jpg' if rng.random() < 0.5 else '.png'}")


def table(results: Table) -> str:
    """Of the seeds that all runs have which there are."""
    there = [run for run in RUNS if run in results]
    if len(there) < 2 or "auto" not in there:
        return "Not measured yet."
    of = {run: {result["seed"]: result for result in results[run]} for run in there}
    seeds = sorted(set.intersection(*(set(found) for found in of.values())))
    found = {run: [of[run][seed] for seed in seeds] for run in there}
    ours = [_accuracy(result) for result in found["auto"]]
    rows = [["`auto`", formats.mean_std(ours), "", *_length(found["auto"])]]
    first = [result["phases"]["supervised"] for result in found["auto"]]
    floors = {"its supervised phase alone": (first, ["", ""])}
    for run, name in NAMES.items():
        if run in found:
            floors[name] = found[run], _length(found[run])
    accuracies = {name: [*map(_accuracy, floor)] for name, (floor, _) in floors.items()}
    ps = tables.holm([tables.paired(ours, theirs) for theirs in accuracies.values()])
    for (name, theirs), p in zip(accuracies.items(), ps, strict=True):
        gap = formats.mean_std(np.subtract(ours, theirs))
        gap += "" if p is None else f", p {formats.p_value(p)}"
        rows.append([name, formats.mean_std(theirs), gap, *floors[name][1]])
    caption = (
        f"{len(CLASSES)} classes of CIFAR-10 as photos, {LABELED} labels of each and "
        f"{len(CLASSES) * UNLABELED} images without, no setting given: test accuracy "
        "in %, mean ± std (seeds), and points of `auto` above, with the p-value of "
        "the paired t-test, corrected by Holm over the rows; minutes with compiling:"
    )
    header = ["", "accuracy", "auto is above by", "steps", "minutes, slowest"]
    return f"{caption}\n\n{formats.markdown_table(header, rows)}"


def _accuracy(entry: dict) -> float:
    return entry["test"]["accuracy"]


def _length(found: list[dict]) -> list[str]:
    """Steps of the two phases, and minutes."""
    phases = [result["phases"].values() for result in found]
    steps = max(sum(phase["steps"] for phase in run) for run in phases)
    return [f"{steps:,}", f"{max(map(tables.seconds, phases)) / 60:.1f}"]


if __name__ == "__main__":
    command.start("auto_photos", main, define_flags)
