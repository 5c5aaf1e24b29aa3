"""Sparse matrices as lists of their entries, and products with them.

A graph is the sparse matrix of its edges' weights; the features of documents, which are
mostly zero, are another. A product is a gather and a `segment_sum` over sorted rows.
Its gradient is XLA's own, an unsorted sum: one over entries sorted by column was no
faster on a CPU.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ssl_jax.errors import UserError
from ssl_jax.graphs import neighbors


class Sparse(struct.PyTreeNode):
    """A matrix of E entries, sorted by row (then column); what is not there is 0.

    Of an adjacency, row i lists the neighbours that node i hears from.
    """

    rows_E: jax.Array  # int32, sorted
    columns_E: jax.Array  # int32
    values_E: jax.Array  # floating; [E, H]: H matrices with their entries at one place
    shape: tuple[int, int] = struct.field(pytree_node=False)


class Graph(NamedTuple):
    """What a network on a graph is given."""

    features_ND: Sparse
    adjacency_NN: Sparse  # symmetric, without self loops


class Looped(NamedTuple):
    """A graph in which every node hears from itself as well."""

    edges_NN: Sparse
    self_N: jax.Array  # [N, H] where the edges have [E, H]


def sparse(rows_E, columns_E, values_E, shape: tuple[int, int]) -> Sparse:
    """Sorts entries on the host. Entries at the same place add up in a product."""
    rows_E, columns_E = np.asarray(rows_E), np.asarray(columns_E)
    order = np.lexsort((columns_E, rows_E))
    return Sparse(
        rows_E=jnp.asarray(rows_E[order], jnp.int32),
        columns_E=jnp.asarray(columns_E[order], jnp.int32),
        values_E=jnp.asarray(np.asarray(values_E)[order]),
        shape=shape,
    )


def undirected(from_E, to_E, num_nodes: int) -> Sparse:
    """The adjacency of weight 1 in both directions, each edge once and none to itself:
    of edges in any order, direction and number, on the host."""
    from_E, to_E = np.asarray(from_E, np.int64), np.asarray(to_E, np.int64)
    rows_E, columns_E = np.r_[from_E, to_E], np.r_[to_E, from_E]
    places_E = np.unique((rows_E * num_nodes + columns_E)[rows_E != columns_E])
    rows_E, columns_E = np.divmod(places_E, num_nodes)
    shape = (num_nodes, num_nodes)
    return sparse(rows_E, columns_E, np.ones(len(rows_E), np.float32), shape)


def neighbor_graph(images_NHWC: np.ndarray, k: int = 5) -> Graph:
    """uint8 images as a graph: each is linked with its k nearest, and those with it.

    The features are the pixels in [0, 1]; of a black one there is no entry.

    Raises:
      UserError: k is not 1 to N - 1.
    """
    N = len(images_NHWC)
    if not 1 <= k < N:
        raise UserError(f"k={k} neighbours of {N:,} images: use k from 1 to {N - 1:,}.")
    pixels_ND = np.asarray(images_NHWC).reshape(N, -1).astype(np.float32) / 255
    # Its nearest is itself; of more than k duplicates it may not be, and has one more.
    _, index_Nk = neighbors.nearest(pixels_ND, pixels_ND, k + 1, metric="euclidean")
    rows_E, columns_E = np.nonzero(pixels_ND)
    values_E = pixels_ND[rows_E, columns_E]
    return Graph(
        features_ND=sparse(rows_E, columns_E, values_E, pixels_ND.shape),
        adjacency_NN=undirected(
            np.repeat(np.arange(N), k + 1), np.asarray(index_Nk).ravel(), N
        ),
    )


def product(matrix_NM: Sparse | jax.Array, dense_MK: jax.Array) -> jax.Array:
    """matrix @ dense, [N, K]; [N, H, K] of values [E, H] and dense [M, H, K]."""
    if not isinstance(matrix_NM, Sparse):
        return matrix_NM @ dense_MK
    values_E = matrix_NM.values_E
    values = values_E.reshape(*values_E.shape, *(1,) * (dense_MK.ndim - values_E.ndim))
    return jax.ops.segment_sum(
        values * dense_MK[matrix_NM.columns_E],
        matrix_NM.rows_E,
        num_segments=matrix_NM.shape[0],
        indices_are_sorted=True,
    )


def row_sums(matrix_NM: Sparse) -> jax.Array:
    """[N], or [N, H] of values [E, H]."""
    return jax.ops.segment_sum(
        matrix_NM.values_E,
        matrix_NM.rows_E,
        num_segments=matrix_NM.shape[0],
        indices_are_sorted=True,
    )


def row_normalized(matrix_NM: Sparse) -> Sparse:
    """Rows divided by their sums; a row whose sum is 0 stays as it is."""
    sums_N = row_sums(matrix_NM)
    sums_E = jnp.where(sums_N == 0, 1, sums_N)[matrix_NM.rows_E]
    return matrix_NM.replace(values_E=matrix_NM.values_E / sums_E)


def renormalized(adjacency_NN: Sparse) -> Looped:
    """D^-1/2 (A + I) D^-1/2, where D has the row sums of A + I.

    Kipf and Welling, arXiv:1609.02907, section 2.2. An isolated node has 1 of itself.
    """
    scale_N = jax.lax.rsqrt(1 + row_sums(adjacency_NN))
    rows_E, columns_E = adjacency_NN.rows_E, adjacency_NN.columns_E
    values_E = adjacency_NN.values_E * scale_N[rows_E] * scale_N[columns_E]
    return Looped(adjacency_NN.replace(values_E=values_E), scale_N**2)


def propagate(graph: Looped, dense_NK: jax.Array) -> jax.Array:
    """What the nodes hear, [N, K]; [N, H, K] of H graphs and dense [N, H, K]."""
    ones = (1,) * (dense_NK.ndim - graph.self_N.ndim)
    own_NK = graph.self_N.reshape(*graph.self_N.shape, *ones) * dense_NK
    return product(graph.edges_NN, dense_NK) + own_NK


def dropout(
    key: jax.Array, values: Sparse | jax.Array, rate: float
) -> Sparse | jax.Array:
    """values / (1 - rate), where each is 0 with probability `rate`.

    Of a sparse matrix only the entries draw: the zeros between them stay zero anyhow.
    A draw takes as few random bits as the rate can be told by, and so one at 0.5.

    Raises:
      UserError: rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise UserError(f"dropout={rate}: use a rate of at least 0 and below 1.")
    if isinstance(values, Sparse):
        return values.replace(values_E=dropout(key, values.values_E, rate))
    if rate == 0:
        return values
    bits = next(b for b in (1, 2, 4, 8, 16, 32) if b == 32 or rate * 2**b % 1 == 0)
    words_W = jax.random.bits(key, (-(-values.size * bits // 32),))
    shifts_S = jnp.arange(0, 32, bits, dtype=jnp.uint32)
    drawn_WS = (words_W[:, None] >> shifts_S[None, :]) & jnp.uint32(2**bits - 1)
    drawn = drawn_WS.reshape(-1)[: values.size].reshape(values.shape)
    kept = drawn >= jnp.uint32(round(rate * 2**bits))
    return jnp.where(kept, values / (1 - rate), 0)
