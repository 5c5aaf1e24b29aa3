"""Three forms of one matrix, against NumPy in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.datasets import load_digits

from ssl_jax.graphs import affinity


def rows(N, D=5):
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def expected(z_ND, loops):
    """(S_NN, degrees_N) in float64."""
    z_ND = z_ND.astype(np.float64)
    weights_NN = np.exp(-0.5 * ((z_ND[:, None] - z_ND[None]) ** 2).sum(-1))
    if not loops:
        np.fill_diagonal(weights_NN, 0)
    degree_N = weights_NN.sum(1)
    return weights_NN / np.sqrt(degree_N[:, None] * degree_N[None]), degree_N


def product(graph, dense_NK):
    return jax.jit(lambda graph, dense_NK: graph.product(dense_NK))(graph, dense_NK)


@pytest.mark.parametrize(("loops", "devices"), [(False, 1), (True, 4)])
def test_blocks_equal_the_matrix(loops, devices):
    """Blocks that do not divide the rows, and padding, on which nothing depends."""
    z_ND, dense_NK = rows(43), rows(43, 3)
    mask_N = np.arange(43) < 40
    S_NN, degree_N = expected(z_ND[:40], loops)
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    with jax.set_mesh(mesh):
        graph = affinity.blocks(z_ND, mask_N, loops=loops, block=16)
        result_NK = product(graph, dense_NK)
    result_NK = np.asarray(result_NK)
    np.testing.assert_allclose(result_NK[:40], S_NN @ dense_NK[:40], atol=3e-6)
    np.testing.assert_array_equal(result_NK[40:], 0)
    np.testing.assert_allclose(
        np.exp(np.asarray(graph.log_degree_N)[:40]), degree_N, rtol=1e-5
    )


@pytest.mark.parametrize("devices", [1, 4])
def test_rows_far_from_the_center_have_their_neighbours(devices):
    """Of the logarithms, of which products of float32 are wrong by up to 6."""
    z_ND, dense_NK = rows(43), rows(43, 3)
    z_ND[30:] += 3000
    S_NN, _ = expected(z_ND, False)
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    with jax.set_mesh(mesh):
        graph = affinity.blocks(z_ND, loops=False, block=16, careful=True)
        result_NK = product(graph, dense_NK)
    np.testing.assert_allclose(result_NK, S_NN @ dense_NK, atol=1e-5)
    dense = affinity.dense(z_ND, loops=False, careful=True)
    np.testing.assert_allclose(product(dense, dense_NK), result_NK, atol=1e-5)
    weights_MN = np.exp(-0.5 * ((z_ND[25:35, None] - z_ND[None]) ** 2).sum(-1))
    average_MK = weights_MN / weights_MN.sum(1, keepdims=True) @ dense_NK
    found_MK = jax.jit(partial(affinity.average, careful=True))(
        z_ND[25:35], z_ND, dense_NK
    )
    np.testing.assert_allclose(found_MK, average_MK, atol=1e-4)


def test_logarithms_do_not_underflow():
    """At gamma 0.25 on digits 0..16, where products in float32 are 0."""
    features_ND = load_digits().data[:330]
    z_ND = np.sqrt(0.5) * (features_ND - features_ND.mean(0))
    with np.errstate(divide="ignore"):
        log_NK = np.log(np.eye(10)[load_digits().target[:330]])
    log_NK[40:] = -np.inf
    log_NN = -0.25 * ((features_ND[:, None] - features_ND[None]) ** 2).sum(-1)
    np.fill_diagonal(log_NN, -np.inf)
    half_N = logsumexp(log_NN, axis=1) / 2
    log_NN -= half_N[:, None] + half_N[None]
    expected_NK = logsumexp(log_NN[:, :40, None] + log_NK[None, :40], axis=1)
    assert (np.float32(np.exp(2 * half_N)) == 0).sum() > 50

    @jax.jit
    def log_product(z_ND, log_NK):
        return affinity.blocks(z_ND, loops=False, block=128).log_product(log_NK)

    found_NK = np.asarray(log_product(np.float32(z_ND), np.float32(log_NK)))
    best_N1 = expected_NK.max(1, keepdims=True)
    assert (np.float32(np.exp(best_N1)) == 0).mean() > 0.3
    near_NK = expected_NK > best_N1 - 80  # of a row's others float32 may say 0
    np.testing.assert_allclose(found_NK[near_NK], expected_NK[near_NK], atol=5e-4)
    assert (found_NK <= best_N1 - 79)[~near_NK].all()


@pytest.mark.parametrize("loops", [False, True])
def test_dense_is_float64(loops):
    z_ND, dense_NK = rows(30), rows(30, 3)
    S_NN, _ = expected(z_ND, loops)
    with jax.enable_x64(True):
        graph = affinity.dense(jnp.asarray(z_ND, jnp.float64), loops=loops)
        result_NK = product(graph, jnp.asarray(dense_NK, jnp.float64))
        np.testing.assert_allclose(result_NK, S_NN @ dense_NK, atol=1e-13)


@pytest.mark.parametrize("devices", [1, 4])
def test_neighbors_are_normalised_by_who_lists_them(devices):
    """By hand: 1 is listed by 0 and 2, 2 by 1, 0 and 3 by no other."""
    index_Nk = np.int32([[0, 1], [1, 2], [2, 1], [3, 3]])  # of 3 nothing was found
    dense_NK = np.float32([[1], [10], [100], [1000]])

    @jax.jit
    def both(index_Nk, dense_NK):
        graphs = (affinity.listed(index_Nk, loops=loops) for loops in (False, True))
        return [graph.product(dense_NK)[:, 0] for graph in graphs]

    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    with jax.set_mesh(mesh):
        spread, walk = both(index_Nk, dense_NK)
    root = np.sqrt(2)
    np.testing.assert_allclose(spread, [10 / root, 100 / root, 10 / root, 0])
    np.testing.assert_allclose(walk, [5.5, 55, 55, 1000], rtol=1e-6)


def test_new_rows_are_averaged_even_far_from_all():
    """At a distance whose weights underflow as such; masked rows do not count."""
    z_ND, values_NK, new_MD = rows(60), rows(60, 2), 60 + rows(45)
    mask_N = np.arange(60) % 5 != 4
    square_MN = ((new_MD[:, None].astype(np.float64) - z_ND[None]) ** 2).sum(-1)
    log_MN = np.where(mask_N, -0.5 * square_MN, -np.inf)
    weights_MN = np.exp(log_MN - log_MN.max(1, keepdims=True))
    average = weights_MN / weights_MN.sum(1, keepdims=True) @ values_NK
    result = jax.jit(affinity.average)(new_MD, z_ND, values_NK, mask_N)
    np.testing.assert_allclose(result, average, rtol=1e-4, atol=1e-4)


def test_memory_of_sixty_thousand_images():
    """XLA's own account, beside the images' 188 MB: a matrix would take 14.4 GB."""
    z_ND = jax.ShapeDtypeStruct((60_000, 784), jnp.float32)
    dense_NK = jax.ShapeDtypeStruct((60_000, 10), jnp.float32)
    vector_N = jax.ShapeDtypeStruct((60_000,), jnp.float32)
    graph = affinity.Blocks(z_ND, vector_N, vector_N)
    compiled = jax.jit(lambda graph, F_NK: graph.product(F_NK)).lower(graph, dense_NK)
    assert compiled.compile().memory_analysis().temp_size_in_bytes < 0.5e9
