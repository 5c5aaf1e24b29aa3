"""queries.csv: what a run asks, in the format of data/answers.py."""

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax.active import strategies
from ssl_jax.core import can
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

    A run without classes is asked as well, by what it has learned of the images: then
    nothing is predicted of those that it asks about.

    Raises:
      UserError: the run is not trained to its end, nothing is left to ask, it
        classifies nothing and is asked what it is unsure of, or queries.csv holds
        answers that the run does not know, or cannot be written.
    """
    wanted, workdir = sections.parse(config, to_train=False), Workdir(path)
    known = answered(workdir.labels(wanted.config, compare=False))
    _check_nothing_lost(workdir.queries, known)
    unsure = wanted.query.strategy in strategies.UNCERTAINTY
    trained = restored.load(wanted, workdir, to_classify=unsure)
    dataset, index_N = trained.data.dataset, candidates(trained.data.split)
    sections.check_query(wanted.query, len(index_N))
    probs_NK = None
    if dataset.class_names and can(trained.phase.algorithm, "predict"):
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
        f"the answers:\n{_command(wanted, workdir, dataset)}"
    )


def choose(
    trained: Trained, probs_NK: np.ndarray | None, query: Query, seed: int
) -> np.ndarray:
    """index_M: the `query.size` rows of the pool that the run would have labeled.

    Args:
      probs_NK: what it says of `splits.candidates`; None: it does not classify.

    Raises:
      UserError: as `strategies.choose`, or the run has no features to choose by.
    """
    images, labeled_L = trained.data.dataset.images_NHWC, trained.data.split.labeled
    index_N, features = candidates(trained.data.split), {}
    if query.strategy in strategies.COVERING:
        features_of = restored.featurizer(trained)
        features["features_ND"] = features_of(images, index_N)
        centers_LD = features["features_ND"][:0]  # none, or every labeled image went
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


def _command(wanted, workdir, dataset):
    """What trained the run in `workdir`, with the answers to its questions; of one
    without classes, what goes on from its encoder; of one of `ssl_jax.fit`, that."""
    script, *flags = workdir.command
    if not dataset.class_names:
        of_data = [
            f"--config.data.dir={wanted.data.dir}",
            *(flag for flag in flags if flag.startswith("--config.data.")),
        ]
        of_model = [flag for flag in flags if flag.startswith("--config.model.")]
        script = "launch.py"  # whatever trained it
        flags = ["--config=byol_folder:fixmatch", *dict.fromkeys(of_data + of_model)]
        flags.append(f"--config.train.start_from={workdir.path}")
    elif Path(script).name != "launch.py" and wanted.data.name == "folder":
        given = f"{wanted.data.dir!r}, {str(workdir.queries)!r}, workdir='ANOTHER'"
        return f"ssl_jax.fit({given})  # and what else it was given"
    own = ("--workdir", "--config.data.labels")
    flags = [flag for flag in flags if not flag.startswith(own)]
    flags += [f"--config.data.labels={workdir.queries}", "--workdir=ANOTHER"]
    return shlex.join(["python", script, *flags])


def name(dataset: Dataset, index: int) -> str:
    """What queries.csv calls a row of the pool."""
    return dataset.names_N[index] if dataset.names_N else str(index)


def rows(
    trained: Trained, index_M: np.ndarray, probs_NK: np.ndarray | None
) -> list[dict[str, str]]:
    """A row of queries.csv for each image, its label empty; of a run that does not
    classify, all else but the image too.

    Args:
      index_M: rows of the pool.
      probs_NK: what the run says of `splits.candidates`, if it classifies.
    """
    dataset = trained.data.dataset
    if probs_NK is None:
        blank = dict.fromkeys(COLUMNS, "")
        return [blank | {"image": name(dataset, index)} for index in index_M]
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
    """The answers known, then the rows, as CSV.

    Raises:
      UserError: it cannot be written.
    """
    written = io.StringIO()
    file = csv.DictWriter(written, COLUMNS, restval="", lineterminator="\n")
    file.writeheader()
    file.writerows({"image": image, "label": known[image]} for image in known)
    file.writerows(rows)
    try:
        write_atomically(path, written.getvalue())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): mend its permissions, or "
            "copy the workdir elsewhere."
        ) from error
