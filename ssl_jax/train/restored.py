"""A run that is there, to be asked about images."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import Algorithm, Batch, TrainState, can, fetch, make_mesh, place
from ssl_jax.data import loading
from ssl_jax.data.dataset import inventory
from ssl_jax.data.loading import Data
from ssl_jax.data.placement import EVAL_BATCH
from ssl_jax.data.streams import gathered
from ssl_jax.errors import UserError
from ssl_jax.train import phases
from ssl_jax.train.parts import Run, Trains
from ssl_jax.train.phases import Phase
from ssl_jax.train.program import like
from ssl_jax.workdir import handover
from ssl_jax.workdir.phase_folder import PhaseFolder
from ssl_jax.workdir.workdir import Workdir


class Rebuilt(NamedTuple):
    """A phase of a run that is there, with the data as they are now."""

    phase: Phase
    data: Data
    changed: bool  # images came or went since it began


class Trained(NamedTuple):
    """The last phase of a run that classifies, or has features, trained to its end."""

    phase: Phase
    data: Data
    changed: bool
    folder: PhaseFolder


def load(run: Run, workdir: Workdir, *, to_classify: bool = True) -> Trained:
    """What the run in `workdir` has learned.

    Args:
      to_classify: False: a phase that has features will do, if none classifies.

    Raises:
      UserError: it is not trained to its end, or has no such phase, or no classes.
    """
    check_single(run, workdir)
    section = classifying(run) if to_classify else describing(run)
    folder = finished(section, workdir)
    began_with = workdir.began_with
    if to_classify and began_with is not None and not began_with.class_names:
        raise no_classes(workdir.path)
    return Trained(*rebuild(run, section, workdir), folder)


def no_classes(path: Path) -> UserError:
    """What to raise where the run in the workdir `path` is to classify, and knows no
    class."""
    return UserError(
        f"no image of {path} has a label, so that it knows no class: ask which to "
        "label by --mode=query --config.query.strategy=typical, and train with the "
        "answers first."
    )


def check_single(run: Run, workdir: Workdir) -> None:
    """Raises UserError where the workdir is of several runs, and has no network of its
    own."""
    if run.num_seeds > 1:
        raise UserError(
            f"the {run.num_seeds} seeds in {workdir.path} were trained at once, which "
            "keeps no networks: train one with num_seeds=1 and --config.seed."
        )
    if run.query.rounds:
        last = workdir.round(run.query.rounds).path
        raise UserError(
            f"{workdir.path} is a simulation: take one of its rounds, --workdir={last}."
        )


def finished(section: Trains, workdir: Workdir) -> PhaseFolder:
    """Where a phase has left its last checkpoint.

    Raises:
      UserError: it is not trained to its end.
    """
    folder = workdir.phase(section.name)
    if folder.done is None:
        raise UserError(
            f"the phase {section.name!r} in {workdir.path} is not trained to its end: "
            "run its command again first."
        )
    return folder


def classifying(run: Run) -> Trains:
    """The last phase of a run that classifies images.

    Raises:
      UserError: there is none.
    """
    sections = _that_can(run, "predict")
    if not sections:
        raise UserError(f"no phase of {run.name} classifies images.")
    return sections[-1]


def describing(run: Run) -> Trains:
    """The last phase of a run that classifies images, or else that has features of
    them.

    Raises:
      UserError: there is none.
    """
    sections = _that_can(run, "features") + _that_can(run, "predict")
    if not sections:
        raise UserError(f"no phase of {run.name} learns from images.")
    return sections[-1]


def _that_can(run, method):
    return [
        section
        for section in run.trained.values()
        if can(section.method, method) and section.method.draws_from != "graph"
    ]


def rebuild(run: Run, section: Trains, workdir: Workdir) -> Rebuilt:
    """A phase of the run in `workdir`, and its data as they are now.

    Raises:
      UserError: it has another network than `run` says, its data is not there, or that
        network does not fit it any more.
    """
    workdir.check(run.config, "model", f"{section.name}.algorithm")
    mesh = make_mesh()
    own = run.data_with(workdir.labels(run.config, compare=False), again=True)
    data = loading.load(
        own,
        mesh,
        seed=run.seed,
        as_graph=run.on_graph,
        began_with=workdir.began_with,
    )
    changes = workdir.changes(inventory(data.dataset), accepted=True)
    if changes:
        logging.warning("the data have changed since: %s", "; ".join(changes))
    if section.batch_size:
        # No step is taken, and no state has the size of a batch. The run's may not
        # divide over the devices here, or be of more images than are left.
        ratio = min(section.unlabeled_ratio, 1)
        smallest = dict(batch_size=mesh.size, unlabeled_ratio=ratio)
        section = dataclasses.replace(section, **smallest)
    return Rebuilt(phases.build(run, section, data, mesh), data, bool(changes))


def classifier(trained: Trained) -> Callable[..., np.ndarray]:
    """(images_NHWC, index_M=all) -> probs_MK float32 of those images, uint8 and of the
    run's size, by its last checkpoint.

    Raises:
      UserError: that is missing or damaged.
    """
    return on_images(trained.phase, trained.folder, probabilities)


def of_pool(trained: Trained, index_M: np.ndarray) -> np.ndarray:
    """probs_MK float32 of the labeled and unlabeled images `index_M`: by transduction,
    where the algorithm has said something of each of them (and they are still those),
    else as `classifier`.

    Raises:
      UserError: as `classifier`.
    """
    phase, data = trained.phase, trained.data
    if trained.changed or not can(phase.algorithm, "transduce"):
        return classifier(trained)(data.dataset.images_NHWC, index_M)
    log_NK = phase.algorithm.transduce(_restored(phase, trained.folder))
    rows = np.union1d(data.split.labeled, data.split.unlabeled)
    return np.exp(np.asarray(log_NK))[np.searchsorted(rows, index_M)]


def featurizer(trained: Trained) -> Callable[..., np.ndarray]:
    """(images_NHWC, index_M=all) -> features_MD float32, likewise.

    Raises:
      UserError: the algorithm has none; or as `classifier`.
    """
    phase = trained.phase
    if not can(phase.algorithm, "features"):
        raise UserError(f"{phase.section.algorithm} learns no features.")
    return on_images(phase, trained.folder, type(phase.algorithm).features)


def probabilities(algorithm: Algorithm, state: TrainState, batch: Batch) -> jax.Array:
    """probs_BK float32 of batch["image"]."""
    return jax.nn.softmax(algorithm.predict(state, batch).astype(jnp.float32))


def on_images(
    phase: Phase,
    folder: PhaseFolder,
    of_batch: Callable[..., jax.Array] = probabilities,
) -> Callable[..., np.ndarray]:
    """(images_NHWC, index_M=all) -> of_batch(algorithm, state, batch) of the images
    `index_M`, on the host, by the checkpoint in `folder` of the phase's last step.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    return compiled(phase.algorithm, _restored(phase, folder), phase.mesh, of_batch)


def compiled(
    algorithm: Algorithm,
    state: TrainState,
    mesh: Mesh,
    of_batch: Callable[..., jax.Array],
) -> Callable[..., np.ndarray]:
    """`on_images` of a state that is there, on the devices of `mesh`."""
    rows = NamedSharding(mesh, P("data"))

    @jax.jit
    def said_of(state, images_BHWC):
        return of_batch(algorithm, state, {"image": images_BHWC})

    def of_all(images_NHWC, index_M=None):
        index_M = np.arange(len(images_NHWC)) if index_M is None else index_M
        size = min(EVAL_BATCH, len(index_M))
        size += -size % mesh.size
        parts = [index_M[i : i + size] for i in range(0, len(index_M), size)]
        # The last part is padded by its own images.
        images = gathered(images_NHWC, [np.resize(part, size) for part in parts])
        said = []
        for part, images_BHWC in zip(parts, images, strict=True):
            images_BHWC = place(images_BHWC, rows)
            with jax.set_mesh(mesh):
                said.append(fetch(said_of(state, images_BHWC))[: len(part)])
        return np.concatenate(said)

    return of_all


def _restored(phase, folder):
    """The state of the phase's last step."""
    with jax.set_mesh(phase.mesh):
        return handover.as_saved(folder, like(phase))[1]["state"]
