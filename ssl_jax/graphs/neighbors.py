"""Nearest neighbours by exhaustive search, and k-NN classification of features.

Scores are computed in blocks of queries, so an M x N array never exists.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.graphs import neighbors

_SCORES = 2**23  # a block's, about: 32 MiB, which a CPU's last cache may hold
_GROUP = 16  # neighbours in the bank of which only the best is ranked at first
_SPARE = 8  # candidates beyond k, for what rounding moves past the k-th place


def nearest(
    queries_MD: jax.Array, bank_ND: jax.Array, k: int, *, metric: str
) -> tuple[jax.Array, jax.Array]:
    """The k rows of the bank closest to each query, nearest first.

    Candidates come from |q|^2 + |b|^2 - 2 qb around the bank's mean, whose cancellation
    can swap near-ties in float32; Euclidean ones are therefore ranked again by
    |q - b|^2. Of equally close ones the lower index comes first.

    Args:
      metric: "euclidean" or "cosine". A vector of zeros has similarity 0 to all.

    Returns:
      (closeness_Mk float32, index_Mk int32); closeness is minus the squared distance,
      or the cosine similarity.

    Raises:
      UserError: k or the metric is out of range, or the shapes do not fit.
    """
    M, N = len(queries_MD), len(bank_ND)
    if np.ndim(queries_MD) != 2 or np.shape(queries_MD)[1:] != np.shape(bank_ND)[1:]:
        raise UserError(
            f"queries {np.shape(queries_MD)} and bank {np.shape(bank_ND)} must both be "
            "[rows, features], with the same features: extract them alike."
        )
    if metric not in ("euclidean", "cosine"):
        raise UserError(f"metric={metric!r}: use 'euclidean' or 'cosine'.")
    if not 1 <= k <= N:
        raise UserError(f"k={k} neighbours of {N:,} rows: use k from 1 to {N:,}.")
    if M == 0:
        return jnp.zeros((0, k), jnp.float32), jnp.zeros((0, k), jnp.int32)
    return _nearest(
        jnp.asarray(queries_MD, jnp.float32),
        jnp.asarray(bank_ND, jnp.float32),
        k=k,
        metric=metric,
        block=block_rows(M, N),
    )


def block_rows(M: int, N: int) -> int:
    """Queries of a block: a power of two, 32 to 1,024, about _SCORES with the bank."""
    rows = min(max(_SCORES // N, 32), 1024, M)
    return 1 << (rows.bit_length() - 1)


@partial(jax.jit, static_argnames=("k", "metric", "block"))
def _nearest(queries_MD, bank_ND, *, k, metric, block):
    M, N = len(queries_MD), len(bank_ND)
    euclidean = metric == "euclidean"
    candidates = min(k + _SPARE, N) if euclidean else k
    # Ranking whole rows costs XLA's CPU top_k more than their products. Where groups
    # are few against the candidates, they would save nothing.
    group = _GROUP if N >= 4 * _GROUP * candidates else 1
    if euclidean:
        center_D = bank_ND.mean(axis=0)
        prepared_ND = bank_ND - center_D[None, :]
        offset_N = -0.5 * (prepared_ND**2).sum(axis=1)
    else:
        prepared_ND = _unit(bank_ND)
        offset_N = jnp.zeros(N)
    padding = -N % group
    prepared_ND = jnp.pad(prepared_ND, ((0, padding), (0, 0)))
    offset_N = jnp.pad(offset_N, (0, padding), constant_values=-jnp.inf)

    def of_block(queries_BD):
        centered_BD = queries_BD - center_D[None, :] if euclidean else _unit(queries_BD)
        products_BN = jnp.matmul(
            centered_BD, prepared_ND.T, precision=jax.lax.Precision.HIGHEST
        )
        scores_BN = products_BN + offset_N[None, :]
        score_Bc, index_Bc = _top(scores_BN, candidates, group)
        if not euclidean:
            return score_Bc, index_Bc
        difference_BcD = queries_BD[:, None, :] - bank_ND[index_Bc]
        distance_Bc = (difference_BcD**2).sum(axis=-1)
        distance_Bc, index_Bc = jax.lax.sort((distance_Bc, index_Bc), num_keys=2)
        return -distance_Bc[:, :k], index_Bc[:, :k]

    padded = jnp.pad(queries_MD, ((0, -M % block), (0, 0)))
    blocks = padded.reshape(-1, block, padded.shape[1])
    closeness, index = jax.lax.map(of_block, blocks)
    return closeness.reshape(-1, k)[:M], index.reshape(-1, k)[:M]


def _top(scores_BN, k, group):
    """`lax.top_k` in two stages: the k best of all lie in the k groups with the best
    maxima. Groups are runs of neighbours and are put in order before the second stage,
    so that among equal scores the lower index still comes first."""
    if group == 1:
        return jax.lax.top_k(scores_BN, k)
    B = len(scores_BN)
    grouped_BnG = scores_BN.reshape(B, -1, group)
    _, chosen_Bk = jax.lax.top_k(grouped_BnG.max(axis=-1), k)
    chosen_Bk = jnp.sort(chosen_Bk, axis=1)
    members_BkG = jnp.take_along_axis(grouped_BnG, chosen_Bk[:, :, None], axis=1)
    score_Bk, place_Bk = jax.lax.top_k(members_BkG.reshape(B, -1), k)
    groups_Bk = jnp.take_along_axis(chosen_Bk, place_Bk // group, axis=1)
    return score_Bk, groups_Bk * group + place_Bk % group


def _unit(vectors_ND):
    # By the largest entry first: squares of very small or large ones leave float32.
    largest_N1 = jnp.abs(vectors_ND).max(axis=1, keepdims=True)
    scaled_ND = vectors_ND / jnp.where(largest_N1 > 0, largest_N1, 1)
    norm_N1 = jnp.sqrt((scaled_ND**2).sum(axis=1, keepdims=True))
    return scaled_ND / jnp.where(norm_N1 > 0, norm_N1, 1)


def classify(
    queries_MD: jax.Array,
    bank_ND: jax.Array,
    labels_N: np.ndarray,
    *,
    num_classes: int,
    k: int,
    metric: str,
    temperature: float = 0.1,
) -> jax.Array:
    """predictions_M int32: the class with most votes, of equal ones the smaller.

    "euclidean": each of the k nearest has one vote (arXiv:2007.06346 uses k = 5).
    "cosine": a neighbour votes with exp(similarity / temperature) (arXiv:1805.01978
    uses k = 200 and 0.07; its successors 0.1).

    Args:
      labels_N: the bank's classes, 0..num_classes-1.
      k: neighbours; a smaller bank votes as a whole.

    Raises:
      UserError: as `nearest`, or a label or the temperature is out of range.
    """
    labels_N = np.asarray(labels_N)
    if labels_N.shape != (len(bank_ND),):
        raise UserError(
            f"{labels_N.shape} labels for a bank of {len(bank_ND):,} rows: give one "
            "label for each row."
        )
    if len(labels_N) and not 0 <= labels_N.min() <= labels_N.max() < num_classes:
        raise UserError(
            f"labels from {labels_N.min()} to {labels_N.max()}: they must be 0 to "
            f"{num_classes - 1}; leave out what has no label."
        )
    if not temperature > 0:
        raise UserError(f"temperature={temperature}: use a positive one, such as 0.1.")
    closeness_Mk, index_Mk = nearest(
        queries_MD, bank_ND, min(k, len(bank_ND)), metric=metric
    )
    neighbors_Mk = jnp.asarray(labels_N, jnp.int32)[index_Mk]
    if metric == "euclidean":
        weight_Mk = jnp.ones_like(closeness_Mk)
    else:  # relative to the nearest, or a low temperature would overflow
        weight_Mk = jnp.exp((closeness_Mk - closeness_Mk[:, :1]) / temperature)
    return _vote(neighbors_Mk, weight_Mk, num_classes)


@partial(jax.jit, static_argnames="num_classes")
def _vote(neighbors_Mk, weight_Mk, num_classes):
    def of_one(neighbors_k, weight_k):
        return jnp.zeros(num_classes).at[neighbors_k].add(weight_k).argmax()

    return jax.vmap(of_one)(neighbors_Mk, weight_Mk).astype(jnp.int32)


# Edges and candidates of approximate search. Of 7 neighbours among 100,000 rows of 64
# features in 10 Gaussian clusters, for which nothing is harder, it finds 97.5%.
HNSW_LINKS, HNSW_SEARCH = 32, 64


# Cells of k-means that order the rows, so that neighbours lie near in memory: then a
# search takes half as long.
CELLS = 256


def neighbor_lists(features_ND: np.ndarray, k: int, form: str) -> np.ndarray:
    """index_Nk of each row's k nearest, itself among them; form: "exact", or
    "approximate" by faiss' graph of small worlds (Malkov and Yashunin,
    arXiv:1603.09320) on the host's cores.

    Raises:
      UserError: faiss is not installed.
    """
    if form == "exact":
        return neighbors.nearest(features_ND, features_ND, k, metric="euclidean")[1]
    try:
        import faiss  # only here: it is large, and most runs do without
    except ImportError as error:
        raise UserError(
            "approximate neighbours are found by faiss, which is not installed: pip "
            "install faiss-cpu, or use graph='exact'."
        ) from error
    features_ND = np.ascontiguousarray(features_ND, np.float32)
    N, D = features_ND.shape
    cells = faiss.Kmeans(
        *(D, min(CELLS, -(-N // 64))),
        **dict(niter=5, min_points_per_centroid=1, max_points_per_centroid=64),
    )
    cells.train(features_ND)
    order_N = np.argsort(cells.assign(features_ND)[1], kind="stable")
    features_ND = features_ND[order_N]
    index = faiss.IndexHNSWFlat(D, HNSW_LINKS)
    index.add(features_ND)
    index.hnsw.efSearch = max(HNSW_SEARCH, 2 * k)
    _, place_Nk = index.search(features_ND, k)
    # Fewer than k found is -1: the row itself instead, which then has fewer neighbours.
    place_Nk = np.where(place_Nk < 0, np.arange(N)[:, None], place_Nk)
    index_Nk = np.empty((N, k), np.int32)
    index_Nk[order_N] = order_N[place_Nk]
    return index_Nk
