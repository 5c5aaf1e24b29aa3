"""Nodes of a graph: whose labels are learned from, and whose are asked about."""

import jax
import numpy as np

from ssl_jax import core
from ssl_jax.data import graph_nodes, loading, sources
from ssl_jax.data.dataset import of_arrays
from ssl_jax.data.wanted import Wanted
from ssl_jax.graphs import sparse

MESH = core.make_mesh(jax.devices()[:1])


def test_images_as_a_graph_hide_all_labels_but_those_granted():
    """The test images follow the pool; each evaluation asks about its own nodes."""
    digits = sources.load("digits")
    dataset = of_arrays(
        digits.images_NHWC[:200],
        digits.labels_N[:200],
        test_images_MHWC=digits.test_images_MHWC[:30],
        test_labels_M=digits.test_labels_M[:30],
    )
    wanted = Wanted(num_labels=20, num_validation=40)
    data = loading.load(wanted, MESH, seed=3, as_graph=True, dataset=dataset)
    truth_N = np.concatenate([dataset.labels_N, dataset.test_labels_M])
    learned, asked = jax.device_get((data.graph, data.eval_sets))
    labeled, validation = data.split.labeled, data.split.validation
    assert np.flatnonzero(learned["label"] >= 0).tolist() == labeled.tolist()
    np.testing.assert_array_equal(learned["label"][labeled], truth_N[labeled])
    assert learned["mask"].all() and len(learned["mask"]) == 230
    for name, nodes in (("val", validation), ("test", np.arange(200, 230))):
        (batch,) = asked[name]
        assert np.flatnonzero(batch["mask"]).tolist() == nodes.tolist()
        np.testing.assert_array_equal(batch["label"][nodes], truth_N[nodes])
    assert len(validation) == 40 and not np.isin(validation, labeled).any()


def test_a_networks_test_nodes_have_no_label_in_the_pool():
    """And a node without a known label is asked about by nobody."""
    edges = sparse.undirected([0, 1, 2, 3, 4], [1, 2, 3, 4, 5], 6)
    graph = graph_nodes.GraphData(
        *("made", edges, edges),
        labels_N=np.array([0, 1, 0, 1, 1, -1], np.int32),
        class_names=("a", "b"),
        **dict(train=np.int32([0, 1]), validation=np.int32([2]), test=np.int32([4, 5])),
    )
    dataset, nodes = graph_nodes.of_graph(graph)
    assert dataset.labels_N.tolist() == [0, 1, 0, 1, -1, -1]
    assert nodes.labels_N.tolist() == graph.labels_N.tolist()
    given = graph_nodes.granted(dataset, graph.train, nodes)
    assert given["label"].tolist() == [0, 1, -1, -1, -1, -1]
    asked = graph_nodes.asked(nodes, nodes.test)
    assert asked["mask"].tolist() == [False] * 4 + [True, False]
    assert asked["label"][4] == 1
    share_NN = np.zeros((6, 6))
    features = nodes.shared["features"]
    share_NN[features.rows_E, features.columns_E] = features.values_E
    np.testing.assert_allclose(share_NN.sum(1), 1, rtol=1e-6)
