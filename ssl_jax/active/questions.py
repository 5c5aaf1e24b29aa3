"""queries.csv."""

import csv
import io
import json
import shlex
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ssl_jax.active import strategies
from ssl_jax.data import answers
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.splits import candidates
from ssl_jax.errors import UserError
from ssl_jax.report.figures import active
from ssl_jax.train import restored
from ssl_jax.train.restored import Trained
from ssl_jax.workdir import workdirs
from ssl_jax.workdir.files import write_atomically

FILE = "queries.csv"


COLUMNS = ("image", "predicted", "probability", "entropy", "label")


def query(
    run: Trained,
    probs_NK: np.ndarray,
    strategy: str,
    size: int,
    seed: int,
) -> np.ndarray:
    """index_M: the `size` rows of the pool that the run would have labeled.

    Args:
      probs_NK: what it says of `self_training.candidates`.

    Raises:
      UserError: as `strategies.choose`, or the run has no features to choose by.
    """
    images, labeled_L = run.data.dataset.images_NHWC, run.data.split.labeled
    index_N, features = candidates(run.data.split), {}
    if strategy == "k_center":
        features_of = restored.featurizer(run)
        features["features_ND"] = features_of(images, index_N)
        features["centers_LD"] = features_of(images, labeled_L)
    return strategies.choose(
        strategy, size, index_N, labeled_L, probs_NK=probs_NK, seed=seed, **features
    )


def ask(config: ConfigDict, workdir: Path) -> None:
    """Writes queries.csv, for a user to fill in its column `label`, and the images as
    figures/queries.png. The answers that the run was trained with come first, so the
    newest file holds every answer there is.

    Raises:
      UserError: the run is not trained to its end, nothing is left to ask, or
        queries.csv holds answers that the run does not know.
    """
    strategy, size = config.query.strategy, config.query.size
    strategies.check(strategy, size)
    path = workdir / FILE
    own = workdirs.own_labels(workdir, config, compare=False)
    known = _answered(own.data.labels)
    _check_nothing_lost(path, known)
    run = restored.load(config, workdir)
    dataset, index_N = run.data.dataset, candidates(run.data.split)
    strategies.check(strategy, size, len(index_N))
    probs_NK = restored.of_pool(run, index_N)
    chosen_M = query(run, probs_NK, strategy, size, config.seed)
    questions = _questions(run, chosen_M, probs_NK)
    _write(path, known, questions)
    sheets = active.save_sheets(
        workdir / "figures" / "queries.png",
        dataset.images_NHWC[chosen_M],
        questions,
        f"{config.name}: {len(questions)} questions by {strategy}",
    )
    print(
        f"{len(questions)} questions in {path}, the images in "
        f"{', '.join(map(str, sheets))}.\n"
        "Fill in the column label (a row left empty stays a question), then train with "
        f"the answers:\n{_command(workdir, path)}"
    )


def _command(workdir, path):
    """What trained the run in `workdir`, with the answers in `path`."""
    saved = json.loads((workdir / "config.json").read_text())["command"]
    own = ("--workdir", "--config.data.labels")
    flags = [arg for arg in saved[1:] if not arg.startswith(own)]
    flags += [f"--config.data.labels={path}", "--workdir=ANOTHER"]
    return shlex.join(["python", saved[0], *flags])


def _name(dataset: Dataset, index: int) -> str:
    """What queries.csv calls a row of the pool."""
    return dataset.names_N[index] if dataset.names_N else str(index)


def _questions(run, index_M, probs_NK):
    """A row of queries.csv for each image, its label empty."""
    dataset = run.data.dataset
    probs_MK = probs_NK[np.searchsorted(candidates(run.data.split), index_M)]
    return [
        {
            "image": _name(dataset, index),
            "predicted": dataset.class_names[probs_K.argmax()],
            "probability": f"{probs_K.max():.4f}",
            "entropy": f"{entropy:.4f}",
            "label": "",
        }
        for index, probs_K, entropy in zip(
            index_M, probs_MK, strategies.entropy(probs_MK), strict=True
        )
    ]


def _answered(path: str) -> dict[str, str]:
    """{image: label} of the file that a run was trained with, if with any."""
    rows = answers.rows(Path(path)) if path else []
    return {row.image: row.label for row in rows if row.label}


def _check_nothing_lost(path, known):
    """Raises UserError if the file to be written is there, with other answers."""
    if not path.exists():
        return
    new = [
        row
        for row in answers.rows(path)
        if row.label and known.get(row.image) != row.label
    ]
    if new:
        raise UserError(
            f"{path} holds {len(new)} answers that the run was not trained with (the "
            f"first on line {new[0].line}), and new questions would replace them: "
            f"train with them first, by --config.data.labels={path} and another "
            "--workdir, or move the file."
        )


def _write(path, known, rows):
    """The answers known, then the rows, as CSV."""
    written = io.StringIO()
    file = csv.DictWriter(written, COLUMNS, restval="", lineterminator="\n")
    file.writeheader()
    file.writerows({"image": image, "label": known[image]} for image in known)
    file.writerows(rows)
    write_atomically(path, written.getvalue())
