"""A phase built for its data and its devices, but not yet compiled or trained."""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax import algorithms, models
from ssl_jax.core import Algorithm
from ssl_jax.data import feeds, loading
from ssl_jax.data.loading import Data
from ssl_jax.data.splits import Split
from ssl_jax.errors import UserError
from ssl_jax.train.parts import Model, Run, Trains
from ssl_jax.train.sections import parse


class Phase(NamedTuple):
    """One phase that trains, built and checked but not started."""

    name: str
    title: str  # for figures
    section: Trains
    algorithm: Algorithm
    # The same, whose network goes through a step's images in `config.accumulate` parts.
    in_parts: Algorithm
    feed: feeds.Feed
    key: jax.Array
    mesh: Mesh
    model: Model  # the run's, whose weights it may begin with
    profile: int = 0  # steps of each launch that are traced

    @property
    def images_per_step(self) -> int:
        drawn = self.section.batch_size * (1 + self.section.unlabeled_ratio)
        return drawn or self.feed.num_rows

    @property
    def rows(self) -> NamedSharding:
        """How a batch lies on the devices: split by rows, but a graph whole on each."""
        whole = self.algorithm.draws_from == "graph"
        return NamedSharding(self.mesh, P() if whole else P("data"))


def build(
    run: Run,
    section: Trains,
    data: Data,
    mesh: Mesh,
    labels: feeds.Labels | None = None,
) -> Phase:
    """Builds the phase of `section`; starts nothing and writes nothing.

    Args:
      labels: of a phase with labels_from: what it trains on. Until an earlier phase has
        given them, the labels granted stand in, so that all else can be checked.

    Raises:
      UserError: the section contradicts the data.
    """
    num_classes = len(data.dataset.class_names)
    if not num_classes and section.method.draws_from != "unlabeled":
        raise UserError(
            f"{section.algorithm} learns classes, and no image of "
            f"{data.dataset.name} has a label: name some by config.data.labels. "
            "(configs/byol_folder.py learns without any, and then --mode=query says "
            "which to label first.)"
        )
    if section.labels_from and labels is None:
        labels = feeds.granted(data.dataset, data.split)
    labeled = data.split.labeled if labels is None else labels.index_N
    label_N = data.dataset.labels_N[labeled] if labels is None else labels.label_N
    algorithm = build_algorithm(
        run,
        section,
        num_classes=num_classes,
        num_labeled=len(labeled),
        labeled_K=_by_class(label_N, num_classes),
        granted_K=_by_class(data.dataset.labels_N[data.split.labeled], num_classes),
        num_unlabeled=len(data.split.unlabeled),
    )
    draw = feeds.Draw(
        draws_from=section.method.draws_from,
        batch_size=section.batch_size,
        unlabeled_ratio=section.unlabeled_ratio,
        steps_per_call=section.steps_per_call,
        seed=run.seed,
        phase=section.name,
    )
    key = jax.random.key(run.seed)
    return Phase(
        name=section.name,
        title=title(run, data.split, section.name),
        section=section,
        algorithm=algorithm,
        in_parts=_in_parts(algorithm, run.accumulate),
        feed=feeds.build(data, mesh, draw, labels),
        key=jax.random.fold_in(key, zlib.crc32(section.name.encode())),
        mesh=mesh,
        model=run.model,
        profile=run.profile,
    )


def _by_class(label_N, num_classes):
    return tuple(np.bincount(label_N, minlength=num_classes).tolist())


def build_algorithm(
    run: Run, section: Trains, **sizes: int | tuple[int, ...]
) -> Algorithm:
    """The method of `section` on the run's network.

    Args:
      **sizes: what data give: num_classes, num_labeled, labeled_K (labeled images of
        each class), granted_K (those that no network labeled), num_unlabeled.
    """
    num_classes = sizes["num_classes"]
    return algorithms.build(
        section.method,
        section.hparams,
        model=models.build(
            run.model.name, num_classes=num_classes, **run.model.hparams
        ),
        tx=section.tx,
        views=section.views,
        total_steps=section.steps,
        **sizes,
    )


def _in_parts(algorithm, parts):
    if parts == 1:
        return algorithm
    model = models.in_parts(algorithm.model, parts)
    return dataclasses.replace(algorithm, model=model)


def title(run: Run, split: Split, *names: str) -> str:
    """Of a figure: the names of the run and of what is drawn of it, its seeds, and how
    many labels there are."""
    seeds = f"seed {run.seed}"
    if run.num_seeds > 1:
        seeds = f"seeds {run.seed} to {run.seed + run.num_seeds - 1}"
    named = ", ".join((run.name, *names))
    return f"{named} ({seeds}, {len(split.labeled):,} labels)"


def prepared(
    config: Mapping[str, Any], name: str, mesh: Mesh, data: Data | None = None
) -> tuple[Phase, Data]:
    """The phase `name` of a config and its data, without a workdir: to be measured, or
    looked at in a notebook.

    Args:
      data: read before; what the config names by default.

    Raises:
      UserError: a mistake in the configuration or the data.
    """
    run = parse(config, mesh.size)
    if data is None:
        data = loading.load(run.data, mesh, seed=run.seed, as_graph=run.on_graph)
    return build(run, run.trained[name], data, mesh), data
