"""What the phases of a run share: its data, read once, split once and placed once."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from ssl_jax.core import Batch
from ssl_jax.data import answers, feeds, sources, splits
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.feeds import EVAL_BATCH
from ssl_jax.data.sources import folder, graph_nodes
from ssl_jax.data.splits import Split
from ssl_jax.errors import UserError
from ssl_jax.train.sections import on_graph


class Source(NamedTuple):
    """What does not depend on the seed."""

    dataset: Dataset
    pool: feeds.Pool | None  # on every device, or None: it stays on the host
    test: list[Batch]  # padded batches; none where there is nothing to test on
    nodes: graph_nodes.Nodes | None  # of a run on a graph


class Data(NamedTuple):
    """A seed's. Of a run on a graph, the split is of its first nodes."""

    dataset: Dataset
    split: Split
    pool: feeds.Pool | None  # on every device, or None: it stays on the host
    eval_sets: dict[str, list[Batch]]  # "val" and "test", where there are
    graph: Batch | None = None  # the batch of every step, of a run on a graph


def load(config: ConfigDict, mesh: Mesh, source: Source | None = None) -> Data:
    """Reads, splits and places what `config.data` names.

    Args:
      source: read before, for another seed.

    Raises:
      UserError: it cannot be had, or does not suffice for the split; or an answer in
        `config.data.labels` cannot be taken.
    """
    source = source or read(config, mesh)
    data, dataset = config.data, source.dataset
    split = splits.split(
        dataset,
        num_labels=data.num_labels,
        num_unlabeled=data.num_unlabeled,
        num_validation=data.num_validation,
        labeled_in_unlabeled=data.labeled_in_unlabeled,
        fold=data.fold,
        protocol=data.split,
        seed=config.seed,
    )
    if data.labels:
        hidden = [split.validation, *([source.nodes.test] if source.nodes else [])]
        dataset, split = with_answers(
            dataset, split, Path(data.labels), np.concatenate(hidden)
        )
        if not data.labeled_in_unlabeled:
            rest = np.setdiff1d(split.unlabeled, split.labeled)
            split = split._replace(unlabeled=rest)
    graph, validation = None, []
    if source.nodes is not None:
        shared, whole = source.nodes.shared, NamedSharding(mesh, P())
        granted = graph_nodes.granted(dataset, split.labeled, source.nodes)
        graph = {**shared, **jax.device_put(granted, whole)}
        if len(split.validation):
            asked = graph_nodes.asked(source.nodes, split.validation)
            validation = [{**shared, **jax.device_put(asked, whole)}]
    elif len(split.validation):
        validation = _eval_batches(
            dataset.images_NHWC[split.validation],
            dataset.labels_N[split.validation],
            mesh,
            on_device=source.pool is not None,
        )
    eval_sets = {"val": validation, "test": source.test}
    eval_sets = {name: batches for name, batches in eval_sets.items() if batches}
    return Data(dataset, split, source.pool, eval_sets, graph)


def read(config: ConfigDict, mesh: Mesh) -> Source:
    """Reads what `config.data` names, and places it.

    Raises:
      UserError: it cannot be had.
    """
    data = config.data
    if on_graph(config):
        whole = NamedSharding(mesh, P())
        dataset, nodes = graph_nodes.load(data)
        nodes = nodes._replace(shared=jax.device_put(nodes.shared, whole))
        test = jax.device_put(graph_nodes.asked(nodes, nodes.test), whole)
        return Source(dataset, None, [{**nodes.shared, **test}], nodes)
    if data.name in graph_nodes.NAMES:
        raise UserError(
            f"data.name={data.name!r} is a graph, and no phase of this config learns "
            "from one: take configs/gcn_cora.py."
        )
    dataset = sources.of_config(data)
    pool = feeds.place(dataset, data.placement, mesh)
    test = dataset.test_images_MHWC, dataset.test_labels_M
    batches = _eval_batches(*test, mesh, on_device=pool is not None)
    return Source(dataset, pool, batches, None)


def _eval_batches(images_NHWC, labels_N, mesh, *, on_device):
    """Padded batches; on the device where the pool has room there, too."""
    if not len(images_NHWC):
        return []
    batches = feeds.padded_batches(
        images_NHWC, labels_N, batch=EVAL_BATCH, num_devices=mesh.size
    )
    if on_device:
        batches = jax.device_put(batches, NamedSharding(mesh, P("data")))
    return batches


def with_answers(
    dataset: Dataset, split: Split, path: Path, hidden: np.ndarray
) -> tuple[Dataset, Split]:
    """The data with the labels in the CSV file `path`, which join those granted; rows
    in `hidden` are held out and get none.

    Raises:
      UserError: an answer in it cannot be taken.
    """
    allowed_N = np.isin(np.arange(len(dataset.labels_N)), hidden, invert=True)
    given = answers.read(path, dataset, allowed_N, folder.unreadable(dataset))
    labels_N = np.array(dataset.labels_N)
    labels_N[given.index_n] = given.label_n
    labeled = np.union1d(split.labeled, given.index_n).astype(np.int32)
    return dataset._replace(labels_N=labels_N), split._replace(labeled=labeled)
