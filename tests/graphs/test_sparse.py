"""Sparse products, normalisation and dropout against dense NumPy, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.graphs import sparse

KEY = jax.random.key(0)


def dense(matrix):
    """[N, M] of a Sparse, or [N, N] of a Looped; entries at one place add up."""
    if isinstance(matrix, sparse.Looped):
        return dense(matrix.edges_NN) + np.diag(np.asarray(matrix.self_N))
    out_NM = np.zeros(matrix.shape)
    np.add.at(out_NM, (matrix.rows_E, matrix.columns_E), matrix.values_E)
    return out_NM


def random_sparse(seed, rows=7, columns=5, entries=20, seeds=()):
    """With an empty row and column, and entries that share a place."""
    draw = np.random.default_rng(seed)
    rows_E = draw.integers(1, rows, entries)
    columns_E = draw.integers(1, columns, entries)
    values_E = np.float32(draw.normal(size=(entries, *seeds)))
    return sparse.sparse(rows_E, columns_E, values_E, (rows, columns))


def test_product_and_its_gradients():
    matrix = random_sparse(0)
    draw = np.random.default_rng(1)
    x_MK, pull_NK = np.float32(draw.normal(size=(5, 3))), draw.normal(size=(7, 3))

    def of(values_E, x_MK):
        return sparse.product(matrix.replace(values_E=values_E), x_MK)

    @jax.jit
    def value_and_gradients(pull_NK):
        y_NK, vjp = jax.vjp(of, matrix.values_E, x_MK)
        return y_NK, *vjp(pull_NK)

    y_NK, values_bar_E, x_bar_MK = value_and_gradients(jnp.float32(pull_NK))
    np.testing.assert_allclose(y_NK, dense(matrix) @ x_MK, atol=1e-5)
    np.testing.assert_allclose(x_bar_MK, dense(matrix).T @ pull_NK, atol=1e-5)
    expected_E = (pull_NK @ x_MK.T)[matrix.rows_E, matrix.columns_E]
    np.testing.assert_allclose(values_bar_E, expected_E, atol=1e-5)


def test_products_of_many_seeds_and_heads():
    """vmap with the places shared; and H matrices at once, which is the same."""
    matrix = random_sparse(0, seeds=(4,))
    x_MHK = np.float32(np.random.default_rng(1).normal(size=(5, 4, 3)))
    each_SE = np.asarray(matrix.values_E).T
    heads_NHK = jax.jit(sparse.product)(matrix, x_MHK)

    @jax.jit
    @jax.vmap
    def seeds(values_E, x_MK):
        return sparse.product(matrix.replace(values_E=values_E), x_MK)

    heads_NHK, seeds_SNK = map(
        np.asarray, (heads_NHK, seeds(each_SE, x_MHK.swapaxes(0, 1)))
    )
    assert heads_NHK.shape == (7, 4, 3)
    for i in range(4):
        one_NM = dense(matrix.replace(values_E=each_SE[i]))
        np.testing.assert_allclose(heads_NHK[:, i], one_NM @ x_MHK[:, i], atol=1e-5)
        np.testing.assert_allclose(seeds_SNK[i], heads_NHK[:, i], atol=1e-5)


def test_renormalised_by_hand():
    """Nodes 0 and 1 are linked by weight 3, node 2 is isolated: D = 4, 4, 1."""
    adjacency = sparse.sparse([1, 0], [0, 1], np.float32([3, 3]), (3, 3))
    looped = jax.jit(sparse.renormalized)(adjacency)
    expected_NN = [[1 / 4, 3 / 4, 0], [3 / 4, 1 / 4, 0], [0, 0, 1]]
    np.testing.assert_allclose(dense(looped), expected_NN, rtol=1e-6)
    x_NK = np.float32([[1, 2], [3, 4], [5, 6]])
    heard_NK = jax.jit(sparse.propagate)(looped, x_NK)
    np.testing.assert_allclose(heard_NK, expected_NN @ x_NK, rtol=1e-6)


def test_rows_are_normalised_to_sum_one_and_empty_ones_stay():
    matrix = sparse.sparse([0, 0, 2], [1, 3, 0], np.float32([1, 3, 5]), (3, 4))
    expected = [[0, 0.25, 0, 0.75], [0, 0, 0, 0], [1, 0, 0, 0]]
    np.testing.assert_array_equal(
        dense(jax.jit(sparse.row_normalized)(matrix)), expected
    )


def test_undirected_has_each_edge_once_in_both_directions():
    adjacency = sparse.undirected([0, 1, 1, 2, 0], [1, 0, 1, 0, 1], 4)
    expected = [[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(dense(adjacency), expected)
    assert sparse.undirected([], [], 2).rows_E.shape == (0,)
    lonely = jax.jit(sparse.renormalized)(sparse.undirected([], [], 2))
    np.testing.assert_array_equal(dense(lonely), np.eye(2))


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.6])  # 2, 1 and 32 bits a draw
def test_dropout_has_its_rate_everywhere_and_keeps_the_mean(rate):
    values = np.full((997, 101), 3, np.float32)  # not a multiple of a word's draws
    out = np.asarray(jax.jit(sparse.dropout, static_argnums=2)(KEY, values, rate))
    dropped = out == 0
    # Standard deviations of the means: 0.0016 over all, 0.016 a column.
    assert abs(dropped.mean() - rate) < 0.006
    assert abs(dropped.mean(axis=0) - rate).max() < 0.065
    np.testing.assert_allclose(out[~dropped], 3 / (1 - rate), rtol=1e-6)
    # Neighbouring draws are independent, those of one word as well.
    both = (dropped.ravel()[1:] & dropped.ravel()[:-1]).mean()
    assert abs(both - rate**2) < 0.006


def test_dropout_of_a_sparse_matrix_draws_for_its_entries():
    matrix = random_sparse(0)
    drop = jax.jit(sparse.dropout, static_argnums=2)
    expected_E = drop(KEY, matrix.values_E, 0.5)
    np.testing.assert_array_equal(drop(KEY, matrix, 0.5).values_E, expected_E)
    assert sparse.dropout(KEY, matrix.values_E, 0.0) is matrix.values_E
    with pytest.raises(UserError, match=r"dropout=1.0.*below 1"):
        sparse.dropout(KEY, matrix, 1.0)


def test_images_as_a_graph_of_nearest_neighbours():
    draw = np.random.default_rng(0)
    images_NHWC = draw.integers(0, 256, (30, 3, 2, 1)).astype(np.uint8)
    images_NHWC[draw.random(images_NHWC.shape) < 0.3] = 0
    nodes = sparse.neighbor_graph(images_NHWC, k=4)
    x_ND = images_NHWC.reshape(30, 6) / 255
    np.testing.assert_allclose(dense(nodes.features_ND), x_ND, rtol=1e-6)
    assert len(nodes.features_ND.rows_E) == np.count_nonzero(images_NHWC)

    distance_NN = ((x_ND[:, None] - x_ND[None]) ** 2).sum(-1)
    np.fill_diagonal(distance_NN, np.inf)
    hears_NN = distance_NN <= np.sort(distance_NN)[:, 3:4]
    np.testing.assert_array_equal(dense(nodes.adjacency_NN), hears_NN | hears_NN.T)
    with pytest.raises(UserError, match="k=30 .* 1 to 29"):
        sparse.neighbor_graph(images_NHWC, k=30)
