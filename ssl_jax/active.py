"""Rounds of active learning: a run asks for labels, a user or an oracle answers, and
the next run learns from the answers. Which images it asks about: strategies.py.

Between runs stands queries.csv, in the format of data/answers.py.
"""

import csv
import io
import json
import shlex
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from sklearn.metrics import classification_report, confusion_matrix

from ssl_jax import active_figures, loop, run_data, strategies, trained, workdirs
from ssl_jax.checkpoints import write_atomically, write_json
from ssl_jax.core import UserError
from ssl_jax.data import answers
from ssl_jax.data.cache import Dataset
from ssl_jax.phases import make_mesh
from ssl_jax.self_training import candidates
from ssl_jax.trained import Trained

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
        features_of = trained.featurizer(run)
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
    run = trained.load(config, workdir)
    dataset, index_N = run.data.dataset, candidates(run.data.split)
    strategies.check(strategy, size, len(index_N))
    probs_NK = trained.of_pool(run, index_N)
    chosen_M = query(run, probs_NK, strategy, size, config.seed)
    questions = _questions(run, chosen_M, probs_NK)
    _write(path, known, questions)
    sheets = active_figures.save_sheets(
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


def simulate(
    config: ConfigDict, workdir: Path, devices: list | None = None
) -> dict | None:
    """Trains `config.query.rounds` times; after each an oracle, the truth of the data
    set, answers `config.query.size` questions.

    Round r is an ordinary run in round<r>, whose queries.csv the next one learns from.
    A finished round is not trained again. Nothing learns from the last answers.

    Returns:
      The contents of result.json: the last round's, and "rounds"; None if a signal
      stopped it, and the same call goes on.

    Raises:
      UserError: as `choose` or `loop.run`; or the truth of an image is not known.
    """
    if finished := _finished(config, workdir):
        return finished
    mesh = make_mesh(devices)
    loop.check(_of_round(config, config.data.labels), mesh)
    trained.classifying(config)
    dataset, split = run_data.load(config, mesh)[:2]
    _check_simulation(config, dataset, split)
    with workdirs.opened(workdir, config, mesh, dataset) as resumed:
        rounds, labels = [], config.data.labels
        for r in range(1, config.query.rounds + 1):
            folder = workdir / _round(r)
            of_round = _of_round(config, labels)
            result = loop.run(of_round, folder, devices)
            if result is None:
                return None
            if not (folder / "round.json").exists():
                entry = _judge(of_round, folder, result["test"])
                write_json(folder / "round.json", entry)
            rounds.append(json.loads((folder / "round.json").read_text()))
            labels = str(folder / FILE)
        result |= {
            "name": config.name,
            "config": workdirs.plain(config),
            "rounds": rounds,
            "resumed": resumed,
        }
        index_of = {_name(dataset, i): i for i in range(len(dataset.labels_N))}
        asked = [
            dataset.images_NHWC[[index_of[q["image"]] for q in entry["queried"]]]
            for entry in rounds
        ]
        active_figures.save_simulation(
            workdir / "figures" / config.name,
            f"{config.name}, {config.query.strategy}, seed {config.seed}",
            rounds,
            asked,
            dataset.class_names,
        )
        write_json(workdir / "result.json", result)
    return result


def summary(result: dict) -> str:
    """A line for each round of a simulation, for the terminal."""
    lines = []
    for r, entry in enumerate(result["rounds"], start=1):
        line = (
            f"round {r}: {entry['labels']:,} labels, accuracy {entry['accuracy']:.2%} "
            f"on the {entry['unlabeled']:,} images still unlabeled"
        )
        if entry["test"]:
            line += f", test accuracy {entry['test']['accuracy']:.2%}"
        lines.append(line)
    return "\n".join(lines)


def _command(workdir, path):
    """What trained the run in `workdir`, with the answers in `path`."""
    saved = json.loads((workdir / "config.json").read_text())["command"]
    own = ("--workdir", "--config.data.labels")
    flags = [arg for arg in saved[1:] if not arg.startswith(own)]
    flags += [f"--config.data.labels={path}", "--workdir=ANOTHER"]
    return shlex.join(["python", saved[0], *flags])


def _round(r):
    return f"round{r}"


def _of_round(config, labels):
    """The config of one training of the simulation."""
    of_round = config.copy_and_resolve_references()
    with of_round.unlocked():
        of_round.query.rounds = 0
        of_round.data.labels = labels
    return of_round


def _finished(config, workdir):
    workdirs.check(workdir, config)
    path = workdir / "result.json"
    return json.loads(path.read_text()) if path.exists() else None


def _check_simulation(config, dataset, split):
    index_N = candidates(split)
    asked = config.query.size * config.query.rounds
    strategies.check(config.query.strategy, config.query.size)
    if asked >= len(index_N):
        raise UserError(
            f"query.rounds={config.query.rounds} trainings with query.size="
            f"{config.query.size} questions after each ask for {asked:,} labels, and "
            f"{len(index_N):,} images have none: some must be left to judge by."
        )
    unknown = index_N[dataset.labels_N[index_N] < 0]
    if len(unknown):
        raise UserError(
            f"the oracle of query.rounds={config.query.rounds} is the truth, which "
            f"{dataset.name} does not have of {len(unknown):,} unlabeled images (such "
            f"as {_name(dataset, unknown[0])}): set query.rounds=0 and ask yourself, "
            "by --mode=query, or take other data."
        )


def _judge(config, folder, test):
    """The entry of the round in `folder`, and its queries.csv: the answers that it was
    trained with, then its questions, answered."""
    run = trained.load(config, folder)
    dataset, index_N = run.data.dataset, candidates(run.data.split)
    names = dataset.class_names
    probs_NK = trained.of_pool(run, index_N)
    truth_N, predicted_N = dataset.labels_N[index_N], probs_NK.argmax(axis=1)
    strategy, size = config.query.strategy, config.query.size
    chosen_M = query(run, probs_NK, strategy, size, config.seed)
    queried = _questions(run, chosen_M, probs_NK)
    for row, index in zip(queried, chosen_M, strict=True):
        row["label"] = names[dataset.labels_N[index]]
    _write(folder / FILE, _answered(config.data.labels), queried)
    classes = range(len(names))
    return {
        "labels": len(run.data.split.labeled),
        "unlabeled": len(index_N),
        "accuracy": float((predicted_N == truth_N).mean()),
        "test": test,
        "queried": [
            {key: row[key] for key in ("image", "predicted", "label")}
            for row in queried
        ],
        "report": classification_report(
            truth_N,
            predicted_N,
            labels=classes,
            target_names=names,
            output_dict=True,
            zero_division=0,
        ),
        "confusion": confusion_matrix(truth_N, predicted_N, labels=classes).tolist(),
    }


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
