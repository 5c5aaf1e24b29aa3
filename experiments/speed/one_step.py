"""Whether one training step here is one of PyTorch's: the same loss, the same change
of every parameter and of their average."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.sharding import Mesh
from ml_collections import ConfigDict

from experiments.speed import works
from experiments.speed.torch_peers import loops, weights
from experiments.speed.torch_peers.algorithms import Settings
from experiments.speed.works import Work
from ssl_jax import core, models
from ssl_jax.cli import cores, process
from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError
from ssl_jax.train.program import at, first_item

TOLERANCE = 1e-4  # of a step's loss, and of the size of its change of the parameters


BATCH = 8  # at most: FixMatch's 64 take more than 24 GB on a CPU


class Step(NamedTuple):
    """One step here: what it began with, on flat parameters, and what came of it."""

    config: ConfigDict
    params: dict  # nested, before it
    views: list[np.ndarray]  # images_BHWC, normalised
    labels_B: np.ndarray
    loss: float
    network: dict
    average: dict


def check(
    work: Work, config: ConfigDict, dataset: Dataset, on: torch.device, threads: int
) -> dict[str, float]:
    """`compared` with `here`, on few images; for a process of its own.

    Raises:
      UserError: theirs, or as `works.check_device`.
    """
    config = fewer(config, work.phase)
    process.set_up(config)
    works.check_device(on.type == "cuda")
    loops.prepare(threads, tf32=False)
    step = here(work, config, dataset, core.make_mesh())
    return compared(step, works.settings_of(work, step.config), on)


def fewer(config: ConfigDict, phase: str) -> ConfigDict:
    """With a batch of BATCH images at most, on as many of a CPU's cores as before."""
    config = ConfigDict(config.to_dict())
    config.cpu_devices = min(BATCH, cores.devices(config, cores.cores()))
    config[phase].batch_size = min(BATCH, config[phase].batch_size)
    return config


def here(work: Work, config: ConfigDict, dataset: Dataset, mesh: Mesh) -> Step:
    """One step of the work, on views without chance and every pseudo-label taken.

    In float64, because in float32 an activation near 0 has now and then the other sign
    in the other library, which alone moves some gradients by 1e-3 of their size.
    """
    config = ConfigDict(config.to_dict())
    if "threshold" in config[work.phase].algorithm:
        config[work.phase].algorithm.threshold = 0.0
    phase = works.prepared(work, config, dataset, mesh)
    hparams = config.model.to_dict() | {"dtype": "float64"}
    algorithm = dataclasses.replace(
        phase.algorithm,
        views=_given(phase.algorithm.views),
        model=models.build(hparams.pop("name"), num_classes=works.CLASSES, **hparams),
    )
    feed, key = phase.feed, phase.key
    with jax.enable_x64(True), jax.set_mesh(mesh):
        batch = jax.jit(feed.batch)(feed.arrays, at(first_item(phase), 0))
        state = jax.jit(algorithm.init)(key, batch)
        state = jax.tree.map(_in_float64, state)
        params = jax.device_get(state.params)
        views = jax.device_get(_views(algorithm.views, batch))
        state, metrics = jax.jit(algorithm.train_step)(state, batch, key)
        loss = float(metrics["loss"].compute())
    average = state.extra.get("target", state.extra.get("ema"))
    after = (weights.flat(jax.device_get(tree)) for tree in (state.params, average))
    return Step(config, params, views, np.asarray(batch["label"]), loss, *after)


def compared(step: Step, settings: Settings, on: torch.device) -> dict[str, float]:
    """How far PyTorch's step is from it: in the loss, as a part of it; in parameters
    and their average, as parts of the change of the former.

    Raises:
      UserError: further than TOLERANCE.
    """
    loss, training = loops.one_step(
        settings, step.params, step.views, step.labels_B, on
    )
    apart = {"loss": abs(loss - step.loss) / abs(step.loss)}
    changed = size(step.network, weights.flat(step.params))
    for part in ("network", "average"):
        theirs = weights.dump(getattr(training, part))
        apart[part] = size(getattr(step, part), theirs) / changed
    if not max(apart.values()) <= TOLERANCE:  # nor where it is NaN
        said = ", ".join(f"{part} by {value:.1e}" for part, value in apart.items())
        raise UserError(
            f"{step.config.name}: a step of PyTorch's is not ours: they differ in "
            f"{said}, and may by {TOLERANCE:.0e}."
        )
    return apart


def size(a: dict, b: dict) -> float:
    """|a - b| over all parameters of `a`."""
    return float(np.sqrt(sum(((a[name] - b[name]) ** 2).sum() for name in a)))


def _in_float64(leaf):
    is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(jnp.float64) if is_float else leaf


def _given(views):
    """Views without chance: the image as it is, or its negative upside down."""

    def first(key, images_BHWC, *_):
        return views.plain(images_BHWC)

    def second(key, images_BHWC, *_):
        return views.plain(255 - images_BHWC[:, ::-1])

    if hasattr(views, "weak"):
        return views._replace(weak=first, strong=second)
    return views._replace(first=first, second=second)


def _views(views, batch) -> list[jax.Array]:
    """Of a batch, in the order of `torch_peers.algorithms`."""
    if not hasattr(views, "weak"):
        return [views.first(None, batch["image"]), views.second(None, batch["image"])]
    of = [views.weak(None, batch["image"])]
    if "unlabeled_image" in batch:
        images = batch["unlabeled_image"]
        of += [views.weak(None, images), views.strong(None, images)]
    return of
