"""queries.csv: what a run asks, in the format of data/answers.py."""

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax.active import strategies
from ssl_jax.data import answers, sources
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.splits import candidates
from ssl_jax.errors import UserError
from ssl_jax.report import figures
from ssl_jax.train import phases, restored, sections
from ssl_jax.train.parts import Query
from ssl_jax.train.restored import Trained
from ssl_jax.workdir.files import write_atomically
from ssl_jax.workdir.workdir import Workdir

COLUMNS = ("image", "predicted", "probability", "entropy", "label")


def ask(config: Mapping[str, Any], path: Path) -> None:
    """Writes queries.csv into the workdir `path`, for a user to fill in its column
    `label`, and the images as figures/queries.png. The answers that the run was trained
    with come first, so the newest file holds every answer there is.

    Raises:
      UserError: the run is not trained to its end, nothing is left to ask, or
        queries.csv holds answers that the run does not know.
    """
    wanted, workdir = sections.parse(config, to_train=False), Workdir(path)
    known = answered(workdir.labels(wanted.config, compare=False))
    _check_nothing_lost(workdir.queries, known)
    trained = restored.load(wanted, workdir)
    dataset, index_N = trained.data.dataset, candidates(trained.data.split)
    sections.check_query(wanted.query, len(index_N))
    probs_NK = restored.of_pool(trained, index_N)
    chosen_M = choose(trained, probs_NK, wanted.query, wanted.seed)
    asked = rows(trained, chosen_M, probs_NK)
    write(workdir.queries, known, asked)
    title = phases.title(wanted, trained.data.split)
    title = f"{title}: {len(asked)} questions by {wanted.query.strategy}"

    def images_of(sheet):
        return sources.originals(wanted.data, dataset, chosen_M[sheet])

    sheets = figures.active.question_sheets(images_of, asked, title)
    drawn = workdir.draw_pages("queries", sheets)
    shown = f", the images in {', '.join(map(str, drawn))}" if drawn else ""
    print(
        f"{len(asked)} questions in {workdir.queries}{shown}.\n"
        "Fill in the column label (a row left empty stays a question), then train with "
        f"the answers:\n{_command(workdir)}"
    )


def choose(
    trained: Trained, probs_NK: np.ndarray, query: Query, seed: int
) -> np.ndarray:
    """index_M: the `query.size` rows of the pool that the run would have labeled.

    Args:
      probs_NK: what it says of `splits.candidates`.

    Raises:
      UserError: as `strategies.choose`, or the run has no features to choose by.
    """
    images, labeled_L = trained.data.dataset.images_NHWC, trained.data.split.labeled
    index_N, features = candidates(trained.data.split), {}
    if query.strategy == "k_center":
        features_of = restored.featurizer(trained)
        features["features_ND"] = features_of(images, index_N)
        centers_LD = features["features_ND"][:0]  # where every labeled image went
        if len(labeled_L):
            centers_LD = features_of(images, labeled_L)
        features["centers_LD"] = centers_LD
    return strategies.choose(
        query.strategy,
        query.size,
        index_N,
        labeled_L,
        probs_NK=probs_NK,
        seed=seed,
        **features,
    )


def _command(workdir):
    """What trained the run in `workdir`, with the answers to its questions."""
    script, *flags = workdir.command
    own = ("--workdir", "--config.data.labels")
    flags = [flag for flag in flags if not flag.startswith(own)]
    flags += [f"--config.data.labels={workdir.queries}", "--workdir=ANOTHER"]
    return shlex.join(["python", script, *flags])


def name(dataset: Dataset, index: int) -> str:
    """What queries.csv calls a row of the pool."""
    return dataset.names_N[index] if dataset.names_N else str(index)


def rows(
    trained: Trained, index_M: np.ndarray, probs_NK: np.ndarray
) -> list[dict[str, str]]:
    """A row of queries.csv for each image, its label empty.

    Args:
      index_M: rows of the pool.
      probs_NK: what the run says of `splits.candidates`.
    """
    dataset = trained.data.dataset
    probs_MK = probs_NK[np.searchsorted(candidates(trained.data.split), index_M)]
    return [
        {
            "image": name(dataset, index),
            "predicted": dataset.class_names[probs_K.argmax()],
            "probability": f"{probs_K.max():.4f}",
            "entropy": f"{entropy:.4f}",
            "label": "",
        }
        for index, probs_K, entropy in zip(
            index_M, probs_MK, strategies.entropy(probs_MK), strict=True
        )
    ]


def answered(path: str) -> dict[str, str]:
    """{image: label} of the file that a run was trained with, if with any."""
    given = answers.rows(Path(path)) if path else []
    return {row.image: row.label for row in given if row.label}


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


def write(path: Path, known: Mapping[str, str], rows: Sequence[dict]) -> None:
    """The answers known, then the rows, as CSV."""
    written = io.StringIO()
    file = csv.DictWriter(written, COLUMNS, restval="", lineterminator="\n")
    file.writeheader()
    file.writerows({"image": image, "label": known[image]} for image in known)
    file.writerows(rows)
    write_atomically(path, written.getvalue())
