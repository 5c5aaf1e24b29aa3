"""A folder that nobody has seen, and no setting: a table.

python -m experiments.tables.auto_photos --data_dir=... [--seeds=0,1,2]

For each seed a folder is made of CIFAR-10's images: five classes, 10 labels of each,
500 images without, and 1,000 to test on; of all sizes from 28 to 96 pixels, as JPEG or
PNG, a tenth of them grey. Both runs are of configs/auto.py, on the same folder: "auto",
and "supervised", which has the labels alone; see jobs.py.
"""

import importlib
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from ssl_jax.report import formats
from ssl_jax.workdir.results import Table

WORDS = {"auto": "", "supervised": ":supervised"}
CLASSES = ("airplane", "automobile", "cat", "frog", "horse")
LABELED, UNLABELED, TEST = 10, 100, 200  # of each class
GREY, SIDES = 0.1, (28, 97)


def main(given: flags.FlagValues) -> None:
    seeds = command.parse_seeds(given.seeds)
    chosen = ((k, configure(k, seed)) for seed in seeds for k in WORDS)
    results = jobs.collect("auto_photos", given, chosen, train=make_and_train)
    if results is not None:
        jobs.show(given, table(results))


def configure(kind: str, seed: int) -> ConfigDict:
    return jobs.load(f"auto{WORDS[kind]}", {"seed": seed, "tensorboard": False})


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
    if not set(WORDS) <= set(results):
        return "Not measured yet."
    stats = importlib.import_module("scipy.stats")
    both = {
        kind: {result["seed"]: result for result in results[kind]} for kind in WORDS
    }
    seeds = sorted(both["auto"].keys() & both["supervised"].keys())
    ours, floor = (
        [both[kind][seed]["test"]["accuracy"] for seed in seeds] for kind in WORDS
    )
    first = [
        both["auto"][seed]["phases"]["supervised"]["test"]["accuracy"] for seed in seeds
    ]
    rows = [["`auto`", formats.mean_std(ours), "", _minutes(results["auto"])]]
    for name, others, minutes in (
        ("its supervised phase alone", first, ""),
        ("`auto:supervised`", floor, _minutes(results["supervised"])),
    ):
        gap = formats.mean_std(np.subtract(ours, others))
        if len(seeds) > 1:
            p = stats.ttest_rel(ours, others).pvalue
            gap += f", p {formats.p_value(p)}"
        rows.append([name, formats.mean_std(others), gap, minutes])
    caption = (
        f"{len(CLASSES)} classes of CIFAR-10 as photos, {LABELED} labels of each and "
        f"{len(CLASSES) * UNLABELED} images without, no setting given: test accuracy "
        "in %, mean ± std (seeds), and points of `auto` above, with the p-value of "
        "the paired t-test:"
    )
    header = ["", "accuracy", "auto is above by", "minutes, slowest"]
    return f"{caption}\n\n{formats.markdown_table(header, rows)}"


def _minutes(found: list[dict]) -> str:
    phases = [result["phases"].values() for result in found]
    seconds = [
        sum(phase["seconds"] + phase["compile_seconds"] for phase in run)
        for run in phases
    ]
    return f"{max(seconds) / 60:.1f}"


if __name__ == "__main__":
    command.start("auto_photos", main, command.define_flags)
