"""What the phases of a run share: its data, read once, split once and placed once."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ssl_jax.core import Batch, place, ranges
from ssl_jax.data import (
    answers,
    graph_nodes,
    imbalance,
    placement,
    sources,
    splits,
)
from ssl_jax.data.dataset import Dataset, without_test
from ssl_jax.data.splits import Split
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError
from ssl_jax.workdir.inventory import Inventory


class Source(NamedTuple):
    """What does not depend on the seed."""

    dataset: Dataset
    pool: placement.Pool | None  # on every device, or None: it stays on the host
    test: Sequence[Batch]  # padded; none where there is nothing to test on
    nodes: graph_nodes.Nodes | None  # of a run on a graph


class Data(NamedTuple):
    """A seed's. Of a run on a graph, the split is of its first nodes."""

    dataset: Dataset
    split: Split
    pool: placement.Pool | None  # on every device, or None: it stays on the host
    eval_sets: dict[str, Sequence[Batch]]  # "val" and "test", where there are
    source: Source  # what it was made of, for other seeds
    graph: Batch | None = None  # the batch of every step, of a run on a graph


def mistakes(wanted: Wanted) -> Iterator[str]:
    """What is wrong whatever the data are, a message each."""
    section = {field.name: getattr(wanted, field.name) for field in fields(Wanted)}
    yield from ranges.mistakes(Wanted, section, "data")
    if wanted.placement not in placement.WORDS:
        yield (
            f"data.placement={wanted.placement!r} is unknown; choose auto, device, "
            "host or stream."
        )
    if wanted.changed not in ("", "accept"):
        yield f"data.changed={wanted.changed!r} is unknown; use accept, or leave it ''."
    yield from splits.mistakes(wanted.split, _asked(wanted))
    yield from imbalance.mistakes(_imbalance(wanted), wanted.num_labels)


def load(
    wanted: Wanted,
    mesh: Mesh,
    *,
    seed: int,
    as_graph: bool = False,
    dataset: Dataset | None = None,
    source: Source | None = None,
    began_with: Inventory | None = None,
    tests: bool = True,
) -> Data:
    """Reads, splits and places the data of a run.

    Args:
      as_graph, dataset, tests: as in `read`.
      source: read before, for another seed.
      began_with: of a run that is there: where other images are now than then, they are
        split as it remembers (`splits.kept`), and not drawn anew.

    Raises:
      UserError: as `read`; or the data do not suffice for the split, or an answer in
        `wanted.labels` cannot be taken.
    """
    if source is None:
        source = read(wanted, mesh, as_graph=as_graph, dataset=dataset, tests=tests)
    dataset = source.dataset
    hidden = source.nodes.test if source.nodes else None
    dataset, split = granted(
        wanted, dataset, seed=seed, hidden=hidden, began_with=began_with
    )
    graph, validation = None, []
    if source.nodes is not None:
        learned = graph_nodes.granted(dataset, split.labeled, source.nodes)
        graph = _of_graph(source.nodes, learned, mesh)
        if len(split.validation):
            asked = graph_nodes.asked(source.nodes, split.validation)
            validation = [_of_graph(source.nodes, asked, mesh)]
    elif len(split.validation):
        validation = _eval_batches(
            dataset.images_NHWC,
            dataset.labels_N,
            mesh,
            of=split.validation,
            on_device=source.pool is not None,
        )
    eval_sets = {"val": validation, "test": source.test}
    eval_sets = {name: batches for name, batches in eval_sets.items() if batches}
    return Data(dataset, split, source.pool, eval_sets, source, graph)


def resplit(data: Data, split: Split, mesh: Mesh) -> Data:
    """The same images, of a run that is on no graph, split otherwise."""
    validation = _eval_batches(
        data.dataset.images_NHWC,
        data.dataset.labels_N,
        mesh,
        of=split.validation,
        on_device=data.pool is not None,
    )
    eval_sets = data.eval_sets | {"val": validation}
    return data._replace(split=split, eval_sets=eval_sets)


def read(
    wanted: Wanted,
    mesh: Mesh,
    *,
    as_graph: bool = False,
    dataset: Dataset | None = None,
    tests: bool = True,
) -> Source:
    """Reads what does not depend on the seed, and places it.

    Args:
      as_graph: whether the run learns from a graph: what `wanted.name` names is one, or
        its images become one.
      dataset: images that are in memory already, instead of what `wanted.name` names.
      tests: whether images to test on are kept, where there are; not of a graph's.

    Raises:
      UserError: what is wanted contradicts itself or cannot be had.
    """
    if found := list(mistakes(wanted)):
        raise UserError("\n".join(found))
    if as_graph:
        if dataset is None and sources.is_graph(wanted.name):
            dataset, nodes = graph_nodes.of_graph(sources.read_graph(wanted))
        else:
            dataset = sources.read(wanted) if dataset is None else dataset
            nodes = graph_nodes.of_images(dataset, wanted.neighbors)
        shared = place(nodes.shared, NamedSharding(mesh, P()))
        nodes = nodes._replace(shared=shared)
        test = _of_graph(nodes, graph_nodes.asked(nodes, nodes.test), mesh)
        return Source(dataset, None, [test], nodes)
    dataset = sources.read(wanted) if dataset is None else dataset
    dataset = dataset if tests else without_test(dataset)
    pool = placement.place(dataset, wanted.placement, mesh)
    test = dataset.test_images_MHWC, dataset.test_labels_M
    batches = _eval_batches(*test, mesh, on_device=pool is not None)
    return Source(dataset, pool, batches, None)


def granted(
    wanted: Wanted,
    dataset: Dataset,
    *,
    seed: int,
    hidden: np.ndarray | None = None,
    began_with: Inventory | None = None,
) -> tuple[Dataset, Split]:
    """The data with the labels that a run is granted, those in `wanted.labels` among
    them, and the split.

    Args:
      hidden: rows that get no answer, beside those that validate.
      began_with: as in `load`.

    Raises:
      UserError: the data do not suffice for the split, or an answer cannot be taken.
    """
    asked, uneven = _asked(wanted), _imbalance(wanted)
    remembered = began_with is not None and began_with.labeled
    if remembered and tuple(began_with.labels) != dataset.names_N:
        split = splits.kept(dataset, asked, began_with)
    else:
        if uneven.imbalance:  # which draws them itself
            asked = asked._replace(num_unlabeled=0)
        split = splits.split(
            dataset, protocol=wanted.split, seed=seed, **asked._asdict()
        )
        if uneven.imbalance:
            split = imbalance.thinned(
                dataset, split, uneven, wanted.num_unlabeled, seed
            )
    if not wanted.labels:
        return dataset, split
    before = split.labeled
    dataset, split = with_answers(
        dataset,
        split,
        Path(wanted.labels),
        np.concatenate([split.validation, *([] if hidden is None else [hidden])]),
        gone=wanted.changed == "accept",
    )
    if wanted.labeled_in_unlabeled:  # though num_unlabeled may have left one out
        answered = np.setdiff1d(split.labeled, before)
        unlabeled = np.union1d(split.unlabeled, answered)
    else:
        unlabeled = np.setdiff1d(split.unlabeled, split.labeled)
    return dataset, split._replace(unlabeled=unlabeled)


def with_answers(
    dataset: Dataset,
    split: Split,
    path: Path,
    hidden: np.ndarray,
    *,
    gone: bool = False,
) -> tuple[Dataset, Split]:
    """The data with the labels in the CSV file `path`, which join those granted; rows
    in `hidden` are held out and get none. `gone`: as in `answers.read`.

    Raises:
      UserError: an answer in it cannot be taken.
    """
    allowed_N = np.isin(np.arange(len(dataset.labels_N)), hidden, invert=True)
    given = answers.read(path, dataset, allowed_N, gone=gone)
    labels_N = np.array(dataset.labels_N)
    labels_N[given.index_n] = given.label_n
    labeled = np.union1d(split.labeled, given.index_n).astype(np.int32)
    return dataset._replace(labels_N=labels_N), split._replace(labeled=labeled)


def _asked(wanted: Wanted) -> splits.Asked:
    return splits.Asked(*(getattr(wanted, name) for name in splits.Asked._fields))


def _imbalance(wanted: Wanted) -> imbalance.Imbalance:
    fields = imbalance.Imbalance._fields
    return imbalance.Imbalance(*(getattr(wanted, name) for name in fields))


def _of_graph(nodes: graph_nodes.Nodes, asked: Batch, mesh: Mesh) -> Batch:
    """The whole graph, with label and mask of some of its nodes."""
    return {**nodes.shared, **place(asked, NamedSharding(mesh, P()))}


def _eval_batches(images_NHWC, labels_N, mesh, *, of=None, on_device):
    """Padded batches; on the device where the pool has room there, too."""
    if not len(labels_N):
        return []
    sizes = dict(batch=placement.EVAL_BATCH, num_devices=mesh.size)
    batches = placement.padded_batches(images_NHWC, labels_N, of=of, **sizes)
    if on_device:
        batches = place(batches, NamedSharding(mesh, P("data")))
    return batches
