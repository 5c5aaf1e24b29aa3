"""500 photos without a label, 30 questions, 30 answers: a table.

python -m experiments.tables.no_labels --data_dir=... [--seeds=0,1,2,3,4]

There is one run, "byol", of configs/byol_folder.py on a folder of 500 of CIFAR-10's
training images, drawn by the seed; see jobs.py. Then each strategy says what `--mode=
query` would ask of it, the truth answers, and a linear probe of the frozen features,
with nothing chosen, is judged on CIFAR-10's 10,000 test images. Beside them stand
random questions, the mean of `DRAWS` draws for each seed, and all 500 answers.
"""

import importlib
from pathlib import Path
from statistics import fmean

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from experiments import command, jobs
from ssl_jax.report import formats, tables
from ssl_jax.workdir.results import Table

PHOTOS, ANSWERS, DRAWS = 500, 30, 20
L2 = 0.1  # of the probe: 30 answers are too few to choose it by
STRATEGIES = ("typical", "k_center")


def main(given: flags.FlagValues) -> None:
    seeds = command.parse_seeds(given.seeds)
    chosen = (("byol", configure(seed)) for seed in seeds)
    results = jobs.collect("no_labels", given, chosen, train=pretrain_and_ask)
    if results is not None:
        jobs.show(given, table(results))


def configure(seed: int) -> ConfigDict:
    values = {"seed": seed, "tensorboard": False}
    # Each strategy is asked in turn, whatever the config says.
    values |= {"query.strategy": "k_center", "query.size": ANSWERS}
    values |= {"model.filters": (16, 32, 64)}
    values |= {"pretrain.steps": 500, "pretrain.log_every": 100}
    values |= {"pretrain.eval_every": 500, "pretrain.checkpoint_every": 100}
    return jobs.load("byol_folder", values)


def pretrain_and_ask(config: ConfigDict, workdir: Path) -> dict | None:
    """The result of the run in `workdir`, with {"answers": {"typical": {"accuracy",
    "classes": how many there are among the answers}, ..., "random": a list of such,
    "all": of every photo}}; None if a signal stopped it.

    Args:
      config: its data.dir is CIFAR-10's; what is trained on is a folder beside
        `workdir`.
    """
    # And JAX, here only.
    sources = importlib.import_module("ssl_jax.data.sources")
    cifar10 = sources.load("cifar10", data_dir=config.data.dir)
    rng = np.random.default_rng([config.seed, PHOTOS])
    drawn_N = np.sort(rng.choice(len(cifar10.labels_N), PHOTOS, replace=False))
    config.data.dir = str(workdir.with_name(f"photos-seed{config.seed}"))
    save(cifar10.images_NHWC, drawn_N, Path(config.data.dir))
    result = jobs.train_phases(config, workdir)
    if result is None:
        return None
    truth_N = cifar10.labels_N[drawn_N]
    test = cifar10.test_images_MHWC, cifar10.test_labels_M
    return result | {"answers": ask(config, workdir, truth_N, *test)}


def save(images_NHWC: np.ndarray, index_n: np.ndarray, folder: Path) -> None:
    """The images of these rows as <row>.png, in their order, where they are not yet."""
    image = importlib.import_module("PIL.Image")
    folder.mkdir(parents=True, exist_ok=True)
    for index in index_n.tolist():
        path = folder / f"{index:05}.png"
        if not path.exists():
            image.fromarray(images_NHWC[index]).save(path)


def ask(
    config: ConfigDict,
    workdir: Path,
    truth_N: np.ndarray,
    images_MHWC: np.ndarray,
    truth_M: np.ndarray,
) -> dict:
    """What answers to each strategy's questions are worth, as in `pretrain_and_ask`.

    Args:
      truth_N: of the run's photos, in the order of their names.
      images_MHWC, truth_M: to test on.
    """
    restored, sections, questions, parts, places, probes = map(
        importlib.import_module,
        (
            "ssl_jax.train.restored",
            "ssl_jax.train.sections",
            "ssl_jax.active.questions",
            "ssl_jax.train.parts",
            "ssl_jax.workdir.workdir",
            "ssl_jax.evaluate.probes",
        ),
    )
    wanted = sections.parse(config, to_train=False)
    trained = restored.load(wanted, places.Workdir(workdir), to_classify=False)
    features_of = restored.featurizer(trained)
    features_ND = features_of(trained.data.dataset.images_NHWC)
    features_MD = features_of(np.asarray(images_MHWC[:]))

    def worth(index_n):
        probe = probes.logistic_regression(
            features_ND[index_n],
            truth_N[index_n],
            num_classes=10,
            l2s=(L2,),
            num_folds=1,
            seed=config.seed,
        )
        said_M = np.asarray(probes.logits(probe, features_MD)).argmax(axis=-1)
        classes = len(np.unique(truth_N[index_n]))
        return {"accuracy": float((said_M == truth_M).mean()), "classes": classes}

    def answered(strategy, seed=config.seed):
        query = parts.Query(strategy=strategy, size=ANSWERS, rounds=0)
        return worth(questions.choose(trained, None, query, seed))

    return {
        **{strategy: answered(strategy) for strategy in STRATEGIES},
        "random": [answered("random", seed) for seed in range(DRAWS)],
        "all": worth(np.arange(len(truth_N))),
    }


def accuracies(results: list[dict], figure: str = "accuracy") -> dict[str, list[float]]:
    """Row of the table -> the figure of each seed."""
    found = {
        strategy: [result["answers"][strategy][figure] for result in results]
        for strategy in (*STRATEGIES, "all")
    }
    found["random"] = [
        fmean(draw[figure] for draw in result["answers"]["random"])
        for result in results
    ]
    return found


def table(results: Table) -> str:
    if not results:
        return "Not measured yet."
    found = results["byol"]
    figure, classes = accuracies(found), accuracies(found, "classes")
    lines, ranked = [], sorted(STRATEGIES, key=lambda name: -fmean(figure[name]))
    ps = [tables.paired(figure[name], figure["random"]) for name in ranked]
    for name, p in zip(ranked, tables.holm(ps), strict=True):
        above = formats.mean_std(np.subtract(figure[name], figure["random"]))
        above += "" if p is None else f", p {formats.p_value(p)}"
        lines.append([name.replace("_", " "), figure[name], above, classes[name]])
    lines.append(["random", figure["random"], "", classes["random"]])
    lines.append([f"none: all {PHOTOS} answers", figure["all"], "", classes["all"]])
    rows = [
        [name, formats.mean_std(accuracy), above, f"{fmean(classes_S):.1f}"]
        for name, accuracy, above, classes_S in lines
    ]
    minutes = max(tables.seconds([r["phases"]["pretrain"]]) for r in found) / 60
    caption = (
        f"BYOL on {PHOTOS} photos of CIFAR-10 without a label, then {ANSWERS} answers "
        "to questions, and a linear probe of the frozen features: accuracy in % on the "
        "10,000 test images, mean ± std (seeds), and points above random questions of "
        f"the same seeds ({DRAWS} draws each), with the p-value of the paired t-test, "
        "corrected by Holm over the strategies. The slowest pretraining took "
        f"{minutes:.0f} minutes of a shared core, with compiling:"
    )
    header = ["questions by", "accuracy", "above random", "classes among the answers"]
    return f"{caption}\n\n{formats.markdown_table(header, rows)}"


if __name__ == "__main__":
    command.start("no_labels", main, command.define_flags)
