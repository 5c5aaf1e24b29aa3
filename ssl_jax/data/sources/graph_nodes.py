"""Graphs to learn from: citation networks, and images as a graph of neighbours.

A batch is the whole graph (core.Algorithm). Held-out nodes are part of it: only their
labels are hidden, and an evaluation's mask says which of them it asks about.
"""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ssl_jax.core import Batch
from ssl_jax.data import sources
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.sources import planetoid
from ssl_jax.graphs import sparse

NAMES = tuple(planetoid.SHA256)


class Nodes(NamedTuple):
    """N nodes, of which the first are the rows of a data set's training pool."""

    shared: Batch  # what all batches have: features, adjacency
    labels_N: np.ndarray  # int32: the truth, -1 where it is not known
    test: np.ndarray  # int32, sorted


def load(data: ConfigDict) -> tuple[Dataset, Nodes]:
    """What the config's section `data` names, as a graph.

    Citation networks have no images; their test nodes are in the pool, without a label,
    and Planetoid's nodes to train on and to validate are its two folds. Of image data
    the test images follow the pool, and each image is linked with its `data.neighbors`
    nearest.

    Raises:
      UserError: the data cannot be had.
    """
    if data.name in NAMES:
        network = planetoid.load_planetoid(data.name, data.dir)
        nodes = sparse.Graph(network.features, network.adjacency)
        return _pool(network), Nodes(_shared(nodes), network.labels_N, network.test)
    dataset = sources.of_config(data)
    images_NHWC = np.concatenate([dataset.images_NHWC, dataset.test_images_MHWC])
    labels_N = np.concatenate([dataset.labels_N, dataset.test_labels_M])
    test = np.arange(len(dataset.labels_N), len(labels_N), dtype=np.int32)
    nodes = sparse.neighbor_graph(images_NHWC, data.neighbors)
    return dataset, Nodes(_shared(nodes), labels_N, test)


def _shared(nodes):
    return {
        "features": sparse.row_normalized(nodes.features_ND),
        "adjacency": nodes.adjacency_NN,
    }


def _pool(network):
    labels_N = network.labels_N.copy()
    labels_N[network.test] = -1
    no_images_NHWC = np.zeros((len(labels_N), 0, 0, 0), np.uint8)
    return Dataset(
        name=network.name,
        images_NHWC=no_images_NHWC,
        labels_N=labels_N,
        test_images_MHWC=no_images_NHWC[:0],
        test_labels_M=labels_N[:0],
        class_names=network.class_names,
        folds=(network.train, network.validation),
    )


def granted(dataset: Dataset, labeled: np.ndarray, nodes: Nodes) -> Batch:
    """label and mask of the batch to train on, with the labels of `labeled` alone."""
    label_N = np.full(len(nodes.labels_N), -1, np.int32)
    label_N[labeled] = dataset.labels_N[labeled]
    return {"label": label_N, "mask": np.ones(len(label_N), bool)}


def asked(nodes: Nodes, held_out: np.ndarray) -> Batch:
    """label and mask of an evaluation of the nodes `held_out` whose label is known."""
    mask_N = np.isin(np.arange(len(nodes.labels_N)), held_out) & (nodes.labels_N >= 0)
    return {"label": np.asarray(nodes.labels_N, np.int32), "mask": mask_N}
