"""A phase built from its config and compiled for its devices, but not yet trained."""

import zlib
from typing import NamedTuple

import jax
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from ssl_jax import algorithms, augment, models
from ssl_jax.augment.two_crops import TwoCrops
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core import Algorithm
from ssl_jax.data import feeds
from ssl_jax.data.loading import Data
from ssl_jax.train.optimizers import _build_optimizer
from ssl_jax.train.sections import check_phase


class Phase(NamedTuple):
    """One phase, built and checked but not started."""

    name: str
    title: str  # the run's name and the phase's, for figures
    config: ConfigDict
    algorithm: Algorithm
    views: WeakStrong | TwoCrops | None  # None: the algorithm asks for none
    rate: optax.Schedule | None  # None: the algorithm has no optimizer
    feed: feeds.Feed
    key: jax.Array
    mesh: Mesh

    @property
    def images_per_step(self) -> int:
        drawn = self.config.batch_size * (1 + self.config.unlabeled_ratio)
        return drawn or self.feed.num_rows

    @property
    def rows(self) -> NamedSharding:
        """How a batch lies on the devices: split by rows, but a graph whole on each."""
        whole = self.algorithm.draws_from == "graph"
        return NamedSharding(self.mesh, P() if whole else P("data"))


def build_phase(
    config: ConfigDict,
    name: str,
    data: Data,
    mesh: Mesh,
    labels: feeds.Labels | None = None,
) -> Phase:
    """Builds the phase `name`; starts nothing and writes nothing.

    Args:
      labels: of a phase with labels_from: what it trains on. Until an earlier phase has
        given them, the labels granted stand in, so that all else can be checked.

    Raises:
      UserError: the phase's configuration contradicts itself, the data or the mesh.
    """
    check_phase(config, name, mesh)
    phase = config[name]
    rate = tx = views = None
    if algorithms.takes(phase.algorithm.name, "tx"):
        rate, tx = _build_optimizer(phase)
    if phase.augment:
        views = augment.build(**phase.augment)
    num_classes = len(data.dataset.class_names)
    hparams = phase.algorithm.to_dict()
    algorithm = algorithms.build(
        hparams.pop("name"),
        hparams,
        model=models.build(num_classes=num_classes, **config.model),
        tx=tx,
        views=views,
        num_classes=num_classes,
        num_unlabeled=len(data.split.unlabeled),
        total_steps=phase.steps,
    )
    if phase.labels_from and labels is None:
        labels = feeds.granted(data.dataset, data.split)
    draw = feeds.Draw(
        draws_from=algorithms.draws_from(phase.algorithm.name),
        batch_size=phase.batch_size,
        unlabeled_ratio=phase.unlabeled_ratio,
        steps_per_call=phase.steps_per_call,
        seed=config.seed,
    )
    feed = feeds.build(data, mesh, draw, labels)
    key = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(name.encode()))
    title = f"{config.name}, {name}"
    return Phase(name, title, phase, algorithm, views, rate, feed, key, mesh)
