"""Rounds of active learning: a run asks for labels, a user or an oracle answers, and
the next run learns from the answers. Which images it asks about: strategies.py.

Between runs stands queries.csv (questions.py).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax.active import questions
from ssl_jax.core import make_mesh
from ssl_jax.data import sources
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.splits import candidates
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError
from ssl_jax.report import figures
from ssl_jax.train import adapted, restored, sections
from ssl_jax.train import run as runs
from ssl_jax.workdir import logs, settings
from ssl_jax.workdir.workdir import Round


def simulate(
    config: Mapping[str, Any], path: Path, devices: list | None = None
) -> dict | None:
    """Trains `config.query.rounds` times; after each an oracle, the truth of the data
    set, answers `config.query.size` questions.

    Round r is an ordinary run in the workdir's round<r>, whose queries.csv the next one
    learns from. A finished round is not trained again. Nothing learns from the last
    answers.

    Returns:
      The contents of result.json: the last round's, and "rounds"; None if a signal
      stopped it, and the same call goes on.

    Raises:
      UserError: as `strategies.choose` or `train.run.run`; or the truth of an image is
        not known.
    """
    mesh = make_mesh(devices)
    wanted = sections.parse(config, mesh.size)
    restored.classifying(wanted)
    with runs.entered(wanted, path, mesh) as (workdir, data):
        if data is None:
            return workdir.result
        dataset = data.dataset
        _check(wanted, dataset, data.split)
        rounds, labels = [], workdir.labels(wanted.config)
        for r in range(1, wanted.query.rounds + 1):
            values = {"query.rounds": 0, "data.labels": labels}
            of_round, folder = sections.changed(wanted.config, values), workdir.round(r)
            of_round, _ = adapted.to_data(of_round, folder.path, mesh)
            logs.say(f"round {r} of {wanted.query.rounds}, in {folder.path}")
            result = runs.run(of_round, folder.path, devices)
            if result is None:
                return None
            rounds.append(folder.entry or folder.enter(_judge(of_round, folder)))
            labels = str(folder.queries)
        asked = [
            images(wanted.data, dataset, [row["image"] for row in entry["queried"]])
            for entry in rounds
        ]
        of = f"{rounds[0]['labels']:,} to {rounds[-1]['labels']:,} labels"
        title = f"{wanted.name}, {wanted.query.strategy} (seed {wanted.seed}, {of})"
        shown = figures.active.of_simulation(title, rounds, asked, dataset.class_names)
        workdir.draw(wanted.name, shown)
        if workdir.result is not None:
            return workdir.result  # figures alone were left
        own = {
            "name": wanted.name,
            "config": settings.plain(wanted.config),
            "rounds": rounds,
            "resumed": workdir.resumed,
        }
        return workdir.finish(result | own)


def images(data: Wanted, dataset: Dataset, names: Sequence[str]) -> list[np.ndarray]:
    """image_HWC of each, as `sources.originals` has them: of a folder's that has gone
    since it was asked about, a white one."""
    index_of = {questions.name(dataset, i): i for i in range(len(dataset.labels_N))}
    there = [name for name in names if name in index_of]
    found = sources.originals(data, dataset, [index_of[name] for name in there])
    image_of = dict(zip(there, found, strict=True))
    white_HWC = np.full(dataset.images_NHWC.shape[1:], 255, np.uint8)
    return [image_of.get(name, white_HWC) for name in names]


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


def _check(run, dataset, split):
    index_N, query = candidates(split), run.query
    asked = query.size * query.rounds
    if asked >= len(index_N):
        raise UserError(
            f"query.rounds={query.rounds} trainings with query.size="
            f"{query.size} questions after each ask for {asked:,} labels, and "
            f"{len(index_N):,} images have none: some must be left to judge by."
        )
    unknown = index_N[dataset.labels_N[index_N] < 0]
    if len(unknown):
        raise UserError(
            f"the oracle of query.rounds={query.rounds} is the truth, which "
            f"{dataset.name} does not have of {len(unknown):,} unlabeled images (such "
            f"as {questions.name(dataset, unknown[0])}): set query.rounds=0 and ask "
            "yourself, by --mode=query, or take other data."
        )


def _judge(config, folder: Round):
    """The entry of the round in `folder`, and its queries.csv: the answers that it was
    trained with, then its questions, answered."""
    wanted = sections.parse(config, to_train=False)
    trained = restored.load(wanted, folder)
    dataset, index_N = trained.data.dataset, candidates(trained.data.split)
    names = dataset.class_names
    probs_NK = restored.of_pool(trained, index_N)
    truth_N, predicted_N = dataset.labels_N[index_N], probs_NK.argmax(axis=1)
    chosen_M = questions.choose(trained, probs_NK, wanted.query, wanted.seed)
    queried = questions.rows(trained, chosen_M, probs_NK)
    for row, index in zip(queried, chosen_M, strict=True):
        row["label"] = names[dataset.labels_N[index]]
    known = questions.answered(wanted.data.labels)
    questions.write(folder.queries, known, queried)
    # Here because it takes two seconds, which no other run need pay.
    from sklearn.metrics import classification_report, confusion_matrix

    classes = range(len(names))
    return {
        "labels": len(trained.data.split.labeled),
        "unlabeled": len(index_N),
        "accuracy": float((predicted_N == truth_N).mean()),
        "test": folder.result["test"],
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
