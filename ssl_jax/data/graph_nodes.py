"""Graphs to learn from: citation networks, and images as a graph of neighbours.

A batch is the whole graph (core.Algorithm). Held-out nodes are part of it: only their
labels are hidden, and an evaluation's mask says which of them it asks about.
"""

from typing import NamedTuple

import numpy as np

from ssl_jax.core import Batch
from ssl_jax.data.dataset import Dataset
from ssl_jax.graphs import sparse


class GraphData(NamedTuple):
    """A graph whose nodes are documents; N nodes, D words."""

    name: str
    features: sparse.Sparse  # [N, D], as the files have them: not normalised
    adjacency: sparse.Sparse  # [N, N]: 1 in both directions, no loops, none twice
    labels_N: np.ndarray  # int32, -1 where there is no label
    class_names: tuple[str, ...]
    # Sorted int32 indices of nodes.
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


class Nodes(NamedTuple):
    """N nodes, of which the first are the rows of a data set's training pool."""

    shared: Batch  # what all batches have: features, adjacency
    labels_N: np.ndarray  # int32: the truth, -1 where it is not known
    test: np.ndarray  # int32, sorted


def of_graph(graph: GraphData) -> tuple[Dataset, Nodes]:
    """A graph as it is published. Its data set has no images; its test nodes are in the
    pool, without a label, and its nodes to train on and to validate are two folds."""
    labels_N = graph.labels_N.copy()
    labels_N[graph.test] = -1
    no_images_NHWC = np.zeros((len(labels_N), 0, 0, 0), np.uint8)
    dataset = Dataset(
        name=graph.name,
        images_NHWC=no_images_NHWC,
        labels_N=labels_N,
        test_images_MHWC=no_images_NHWC[:0],
        test_labels_M=labels_N[:0],
        class_names=graph.class_names,
        folds=(graph.train, graph.validation),
    )
    nodes = sparse.Graph(graph.features, graph.adjacency)
    return dataset, Nodes(_shared(nodes), graph.labels_N, graph.test)


def of_images(dataset: Dataset, neighbors: int) -> Nodes:
    """Images as a graph: the test images follow the pool, and each is linked with its
    nearest `neighbors`.

    Raises:
      UserError: there are not so many.
    """
    images_NHWC = np.concatenate([dataset.images_NHWC, dataset.test_images_MHWC])
    labels_N = np.concatenate([dataset.labels_N, dataset.test_labels_M])
    test = np.arange(len(dataset.labels_N), len(labels_N), dtype=np.int32)
    return Nodes(_shared(sparse.neighbor_graph(images_NHWC, neighbors)), labels_N, test)


def granted(dataset: Dataset, labeled: np.ndarray, nodes: Nodes) -> Batch:
    """label and mask of the batch to train on, with the labels of `labeled` alone."""
    label_N = np.full(len(nodes.labels_N), -1, np.int32)
    label_N[labeled] = dataset.labels_N[labeled]
    return {"label": label_N, "mask": np.ones(len(label_N), bool)}


def asked(nodes: Nodes, held_out: np.ndarray) -> Batch:
    """label and mask of an evaluation of the nodes `held_out` whose label is known."""
    mask_N = np.isin(np.arange(len(nodes.labels_N)), held_out) & (nodes.labels_N >= 0)
    return {"label": np.asarray(nodes.labels_N, np.int32), "mask": mask_N}


def _shared(nodes: sparse.Graph) -> Batch:
    return {
        "features": sparse.row_normalized(nodes.features_ND),
        "adjacency": nodes.adjacency_NN,
    }
