"""A run that is there, to be asked about images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from ssl_jax import algorithms
from ssl_jax.core import TrainState, make_mesh
from ssl_jax.data import loading
from ssl_jax.data.loading import Data
from ssl_jax.data.placement import EVAL_BATCH
from ssl_jax.errors import UserError
from ssl_jax.train import sections
from ssl_jax.train.phases import Phase, build_phase
from ssl_jax.train.program import like
from ssl_jax.workdir import workdirs
from ssl_jax.workdir.checkpoints import Checkpoints


class Trained(NamedTuple):
    """The last phase of a run that classifies, trained to its end."""

    phase: Phase
    data: Data
    folder: Path  # the phase's: <workdir>/<phase>


def load(config: ConfigDict, workdir: Path) -> Trained:
    """What the run in `workdir` has learned.

    Raises:
      UserError: it is not trained to its end, or has no phase that classifies images.
    """
    if not {"query", "predict"} <= set(config):
        raise UserError(
            f"the run in {workdir} was trained by an older version of ssl_jax: train "
            "it again with this one."
        )
    if config.num_seeds > 1:
        raise UserError(
            f"the {config.num_seeds} seeds in {workdir} were trained at once, which "
            "keeps no networks: train one with num_seeds=1 and --config.seed."
        )
    if config.query.rounds:
        last = workdir / f"round{config.query.rounds}"
        raise UserError(
            f"{workdir} is a simulation: take one of its rounds, --workdir={last}."
        )
    name = classifying(config)
    if not (workdir / name / "done.json").exists():
        raise UserError(
            f"the phase {name!r} in {workdir} is not trained to its end: run its "
            "command again first."
        )
    phase, data = rebuild(config, name, workdir)
    return Trained(phase, data, workdir / name)


def classifying(config: ConfigDict) -> str:
    """The last phase of a config that classifies images.

    Raises:
      UserError: there is none.
    """
    names = [
        name
        for name in config.phases
        if "algorithm" in config[name]
        and algorithms.has(config[name].algorithm.name, "predict")
        and algorithms.draws_from(config[name].algorithm.name) != "graph"
    ]
    if not names:
        raise UserError(f"no phase of {config.name} classifies images.")
    return names[-1]


def rebuild(config: ConfigDict, name: str, workdir: Path) -> tuple[Phase, Data]:
    """The phase `name` of the run in `workdir`, and its data.

    Raises:
      UserError: it has other fields than today's, another network than `config` says,
        or its data is not there.
    """
    workdirs.check(workdir, config, "model", f"{name}.algorithm")
    mesh = make_mesh()
    try:
        own = workdirs.own_labels(workdir, config, compare=False)
        data = loading.load(
            own.data, mesh, seed=own.seed, as_graph=sections.on_graph(own)
        )
        workdirs.check_data(workdir, data.dataset)
        return build_phase(config, name, data, mesh), data
    except AttributeError as error:
        raise UserError(
            f"the configuration in {workdir} was written by another version of ssl_jax "
            f"({error}): train it again with this one."
        ) from error


def classifier(trained: Trained) -> Callable[..., np.ndarray]:
    """(images_NHWC, index_M=all) -> probs_MK float32 of those images, uint8 and of the
    run's size, by its last checkpoint.

    Raises:
      UserError: that is missing or damaged.
    """
    return on_images(trained.phase, trained.folder, _probabilities)


def of_pool(trained: Trained, index_M: np.ndarray) -> np.ndarray:
    """probs_MK float32 of the labeled and unlabeled images `index_M`: by transduction,
    where the algorithm has said something of each of them, else as `classifier`.

    Raises:
      UserError: as `classifier`.
    """
    phase, data = trained.phase, trained.data
    if not hasattr(phase.algorithm, "transduce"):
        return classifier(trained)(data.dataset.images_NHWC, index_M)
    log_NK = phase.algorithm.transduce(restore(phase, trained.folder))
    rows = np.union1d(data.split.labeled, data.split.unlabeled)
    return np.exp(np.asarray(log_NK))[np.searchsorted(rows, index_M)]


def featurizer(trained: Trained) -> Callable[..., np.ndarray]:
    """(images_NHWC, index_M=all) -> features_MD float32, likewise.

    Raises:
      UserError: the algorithm has none; or as `classifier`.
    """
    phase = trained.phase
    if not hasattr(phase.algorithm, "features"):
        raise UserError(f"{phase.config.algorithm.name} learns no features.")
    return on_images(phase, trained.folder, type(phase.algorithm).features)


def _probabilities(algorithm, state, batch):
    return jax.nn.softmax(algorithm.predict(state, batch).astype(jnp.float32))


def on_images(
    phase: Phase, folder: Path, of_batch: Callable[..., jax.Array] = _probabilities
) -> Callable[..., np.ndarray]:
    """(images_NHWC, index_M=all) -> of_batch(algorithm, state, batch) of the images
    `index_M`, on the host, by the checkpoint in `folder` of the phase's last step.

    Raises:
      UserError: as `restore`.
    """
    state = restore(phase, folder)
    rows = NamedSharding(phase.mesh, P("data"))

    @jax.jit
    def compiled(state, images_BHWC):
        return of_batch(phase.algorithm, state, {"image": images_BHWC})

    def of_all(images_NHWC, index_M=None):
        index_M = np.arange(len(images_NHWC)) if index_M is None else index_M
        size = min(EVAL_BATCH, len(index_M))
        size += -size % phase.mesh.size
        parts = []
        for start in range(0, len(index_M), size):
            part = index_M[start : start + size]
            # The last part is padded by its own images.
            images = jax.device_put(images_NHWC[np.resize(part, size)], rows)
            with jax.set_mesh(phase.mesh):
                parts.append(np.asarray(compiled(state, images))[: len(part)])
        return np.concatenate(parts)

    return of_all


def restore(phase: Phase, folder: Path) -> TrainState:
    """The state of the phase's last step.

    Raises:
      UserError: there is no such checkpoint in `folder`, or it cannot be read.
    """
    steps = json.loads((folder / "done.json").read_text())["steps"]
    with Checkpoints(folder / "checkpoints") as checkpoints, jax.set_mesh(phase.mesh):
        if steps not in checkpoints.steps:
            raise UserError(
                f"{phase.name} was trained for {steps} steps, but has no checkpoint "
                f"of the last: delete {folder / 'done.json'} and run the same command."
            )
        return checkpoints.restore(steps, like(phase))["state"]
