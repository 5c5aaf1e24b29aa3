"""Ten labels a class of a folder, and an encoder that is there: a table.

python -m experiments.tables.ten_labels --weights=encoder.safetensors --data_dir=...

For each seed (--seeds=0,1,2) a folder is made of CIFAR-10's test images, of which a
BYOL that was trained on the others knows none: ten labels of each class, others without
a label, and others to test on. On that are run "recipe", configs/features_folder.py
with the file's encoder, and "fixmatch", configs/folder.py from scratch; see jobs.py.
The same labels on raw pixels, by the recipe's two methods, are part of its result. The
file is made by

python launch.py --config=byol_cifar10:small --workdir=runs/byol_cifar10_small
python launch.py --mode=export --workdir=runs/byol_cifar10_small \
  --config.predict.out=encoder.safetensors
"""

import importlib
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from ssl_jax.errors import UserError
from ssl_jax.report import formats, tables
from ssl_jax.workdir.results import Table

LABELED, UNLABELED, TEST = 10, 190, 300  # of each class
TWO = ("spreading", "probe")  # the recipe's phases
CONFIGS = {"recipe": "features_folder", "fixmatch": "folder:fixmatch"}


def main(given: flags.FlagValues) -> None:
    if not given.weights:
        raise UserError("give --weights, the file with the encoder: --help has more.")
    seeds = command.parse_seeds(given.seeds)
    chosen = [(k, configure(k, seed, given.weights)) for seed in seeds for k in CONFIGS]
    results = jobs.collect("ten_labels", given, chosen, train=make_and_train)
    if results is not None:
        jobs.show(given, table(results))


def define_flags(to: flags.FlagValues) -> None:
    flags.DEFINE_string("weights", "", "encoder, as config.model.weights", to)
    command.define_flags(to, seeds="0,1,2")


def configure(kind: str, seed: int, weights: str = "") -> ConfigDict:
    config = jobs.load(CONFIGS[kind], {"seed": seed, "tensorboard": False})
    if kind == "recipe":
        config.model.weights = weights
        views = jobs.load("byol_cifar10:small").pretrain.augment
        for phase in TWO:
            config[phase].augment.update(mean=views.mean, std=views.std)
    return config


def make_and_train(config: ConfigDict, workdir: Path) -> dict | None:
    """As `jobs.train_phases`, on a folder beside `workdir` that is made of the CIFAR-10
    in the config's data.dir; of the recipe with {"pixels": {"spreading", "probe"}},
    test accuracies."""
    folder = workdir.with_name(f"photos-seed{config.seed}")
    if not folder.exists():
        # And JAX, here only.
        sources = importlib.import_module("ssl_jax.data.sources")
        save(sources.load("cifar10", data_dir=config.data.dir), folder, config.seed)
    config.data.dir = str(folder)
    result = jobs.train_phases(config, workdir)
    if result is None or "recipe" not in workdir.name:
        return result
    result["config"]["model"]["weights"] = Path(config.model.weights).name
    return result | {"pixels": on_pixels(config)}


def save(cifar10, folder: Path, seed: int) -> None:
    """Its test images as the photos of a seed."""
    image = importlib.import_module("PIL.Image")
    rng = np.random.default_rng([seed, LABELED])
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    for c, name in enumerate(cifar10.class_names):
        rows_N = rng.permutation(np.flatnonzero(cifar10.test_labels_M == c))
        ends = np.cumsum((LABELED, UNLABELED, TEST))
        parts = np.split(rows_N[: ends[-1]], ends[:-1])
        for place, rows in zip((name, "unlabeled", f"test/{name}"), parts, strict=True):
            (unfinished / place).mkdir(parents=True, exist_ok=True)
            for row in rows.tolist():
                path = unfinished / place / f"{row:05}.png"
                image.fromarray(cifar10.test_images_MHWC[row]).save(path)
    unfinished.rename(folder)


def on_pixels(config: ConfigDict) -> dict[str, float]:
    """What the recipe's two methods, as it has them, reach on raw pixels."""
    core, sections, loading, spreading, probes = map(
        importlib.import_module,
        (
            "ssl_jax.core",
            "ssl_jax.train.sections",
            "ssl_jax.data.loading",
            "ssl_jax.algorithms.label_spreading",
            "ssl_jax.evaluate.probes",
        ),
    )
    run = sections.parse(config)
    data = loading.load(run.data, core.make_mesh(), seed=run.seed)
    dataset, split = data.dataset, data.split
    pool_ND, test_MD = (
        np.reshape(images, (len(images), -1)) / np.float32(255)
        for images in (dataset.images_NHWC, dataset.test_images_MHWC)
    )
    granted_N = np.full(len(pool_ND), -1)
    granted_N[split.labeled] = dataset.labels_N[split.labeled]
    center_1D = pool_ND.mean(axis=0, keepdims=True)
    how = config.spreading.algorithm
    directions = (x - center_1D for x in (test_MD, pool_ND))
    said_M = spreading.predict(
        *(x / np.linalg.norm(x, axis=1, keepdims=True) for x in directions),
        granted_N,
        kernel=how.kernel,
        n_neighbors=how.n_neighbors,
        alpha=how.alpha,
        max_iter=config.spreading.steps,
        tol=how.tol,
    )
    probe = probes.logistic_regression(
        pool_ND[split.labeled],
        granted_N[split.labeled],
        num_classes=len(dataset.class_names),
        l2s=(config.probe.optimizer.weight_decay,),
        num_folds=1,
        seed=config.seed,
    )
    probed_M = np.asarray(probes.logits(probe, test_MD)).argmax(axis=-1)
    truth_M = dataset.test_labels_M
    return {
        "spreading": float((said_M == truth_M).mean()),
        "probe": float((probed_M == truth_M).mean()),
    }


def accuracies(results: Table) -> dict[str, list[float]]:
    """Row of the table -> test accuracy of each seed that has both runs."""
    both = {kind: {r["seed"]: r for r in results[kind]} for kind in CONFIGS}
    seeds = sorted(both["recipe"].keys() & both["fixmatch"].keys())
    recipe = [both["recipe"][seed] for seed in seeds]
    found = {}
    for phase in TWO:
        tests = [result["phases"][phase]["test"] for result in recipe]
        found[f"the encoder's features, {phase}"] = [t["accuracy"] for t in tests]
    for phase in TWO:
        found[f"raw pixels, {phase}"] = [result["pixels"][phase] for result in recipe]
    scratch = [both["fixmatch"][seed]["test"]["accuracy"] for seed in seeds]
    return found | {"FixMatch from scratch": scratch}


def table(results: Table) -> str:
    if not set(CONFIGS) <= set(results):
        return "Not measured yet."
    found = accuracies(results)
    ours, below = [*found][: len(TWO)], [*found][len(TWO) :]
    p_of = {}  # (one of ours, one below)
    for mine in ours:
        ps = tables.holm([tables.paired(found[mine], found[name]) for name in below])
        p_of |= {(mine, name): p for name, p in zip(below, ps, strict=True)}
    seconds = {kind: _seconds(results[kind]) for kind in CONFIGS}
    rows = []
    for name, others in found.items():
        gaps = [""] * len(ours)
        for i, mine in enumerate(ours if name not in ours else ()):
            gaps[i] = formats.mean_std(np.subtract(found[mine], others))
            p = p_of[mine, name]
            gaps[i] += "" if p is None else f", p {formats.p_value(p)}"
        taken = {"the": seconds["recipe"], "Fix": seconds["fixmatch"]}.get(name[:3])
        took = "" if taken is None else f"{taken[_phase(name)]:,.0f}"
        rows.append([name, formats.mean_std(others), *gaps, took])
    caption = (
        f"CIFAR-10's classes in a folder, {LABELED} labels and {UNLABELED} images "
        f"without one of each, {TEST} of each to test on: accuracy in %, mean ± std "
        "(seeds, which draw the images); points that each of the encoder's is above, "
        "with the p-value of the paired t-test, corrected by Holm over the rows; and "
        "seconds of the slowest run, with compiling:"
    )
    above = [f"{phase} is above by" for phase in TWO]
    header = ["on", "accuracy", *above, "seconds"]
    return f"{caption}\n\n{formats.markdown_table(header, rows)}"


def _phase(name):
    return next((phase for phase in TWO if name.endswith(phase)), "train")


def _seconds(found: list[dict]) -> dict[str, float]:
    """Phase -> of the slowest run."""
    return {
        phase: max(tables.seconds([result["phases"][phase]]) for result in found)
        for phase in found[0]["phases"]
    }


if __name__ == "__main__":
    command.start("ten_labels", main, define_flags)
