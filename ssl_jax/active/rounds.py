"""Rounds of active learning: a run asks for labels, a user or an oracle answers, and
the next run learns from the answers. Which images it asks about: strategies.py.

Between runs stands queries.csv, in the format of data/answers.py.
"""

import json
from pathlib import Path

from ml_collections import ConfigDict
from sklearn.metrics import classification_report, confusion_matrix

from ssl_jax.active import strategies
from ssl_jax.active.questions import FILE, _answered, _name, _questions, _write, query
from ssl_jax.core import make_mesh
from ssl_jax.data import loading
from ssl_jax.data.splits import candidates
from ssl_jax.errors import UserError
from ssl_jax.report.figures import active
from ssl_jax.train import restored, run, sections
from ssl_jax.workdir import settings, workdirs
from ssl_jax.workdir.files import write_json


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
    run.check(_of_round(config, config.data.labels), mesh)
    restored.classifying(config)
    on_graph = sections.on_graph(config)
    data = loading.load(config.data, mesh, seed=config.seed, as_graph=on_graph)
    dataset, split = data[:2]
    _check_simulation(config, dataset, split)
    with workdirs.opened(workdir, config, mesh, dataset) as resumed:
        rounds, labels = [], config.data.labels
        for r in range(1, config.query.rounds + 1):
            folder = workdir / _round(r)
            of_round = _of_round(config, labels)
            result = run.run(of_round, folder, devices)
            if result is None:
                return None
            if not (folder / "round.json").exists():
                entry = _judge(of_round, folder, result["test"])
                write_json(folder / "round.json", entry)
            rounds.append(json.loads((folder / "round.json").read_text()))
            labels = str(folder / FILE)
        result |= {
            "name": config.name,
            "config": settings.plain(config),
            "rounds": rounds,
            "resumed": resumed,
        }
        index_of = {_name(dataset, i): i for i in range(len(dataset.labels_N))}
        asked = [
            dataset.images_NHWC[[index_of[q["image"]] for q in entry["queried"]]]
            for entry in rounds
        ]
        active.save_simulation(
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
    run = restored.load(config, folder)
    dataset, index_N = run.data.dataset, candidates(run.data.split)
    names = dataset.class_names
    probs_NK = restored.of_pool(run, index_N)
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
