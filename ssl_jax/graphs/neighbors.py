"""Nearest neighbours by exhaustive search, and k-NN classification of features.

Scores are computed in blocks of queries, so an M x N array never exists.
"""

import logging
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.graphs import distances

logger = logging.getLogger(__name__)

_SCORES = 2**23  # a block's, about: 32 MiB, which a CPU's last cache may hold
_GROUP = 16  # neighbours in the bank of which only the best is ranked at first
_SPARE = 8  # candidates beyond k, for what rounding moves past the k-th place
_AGAIN = 32  # queries at a time that are searched by differences
_LONG = 3e11  # differences, of which a warning says that they take time
_RANKED = 2**22  # numbers at a time of candidates that are ranked in float64


def nearest(
    queries_MD: jax.Array, bank_ND: jax.Array, k: int, *, metric: str
) -> tuple[jax.Array, jax.Array]:
    """The k rows of the bank closest to each query, nearest first.

    Euclidean candidates come from |b|^2 / 2 - qb around the bank's center in float32,
    and are ranked by |q - b|^2. Queries for which the rounding of either might hide a
    neighbour, by its bound, are searched again by differences in float64 (inside of
    jit in float32). Of equally close ones the lower index comes first.

    Args:
      metric: "euclidean" or "cosine". A vector of zeros has similarity 0 to all.

    Returns:
      (closeness_Mk float32, index_Mk int32); closeness is minus the squared distance,
      or the cosine similarity.

    Raises:
      UserError: k or the metric is out of range, the shapes do not fit, or the rows are
        not of real numbers.
    """
    traced = any(isinstance(x, jax.core.Tracer) for x in (queries_MD, bank_ND))
    if not traced:
        queries_MD = distances.real(queries_MD, "queries")
        bank_ND = distances.real(bank_ND, "rows of the bank")
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
    how = dict(k=k, metric=metric, block=block_rows(M, N))
    if traced:
        queries_MD, bank_ND = (x.astype(jnp.float32) for x in (queries_MD, bank_ND))
        found = _nearest(queries_MD, bank_ND, bank_ND.mean(axis=0), **how)
        if metric == "euclidean":
            found = _again(queries_MD, bank_ND, found)
        return found.closeness_Mc[:, :k], found.index_Mc[:, :k]
    power = distances.exponent(queries_MD, bank_ND)
    if power:
        queries_MD, bank_ND = (np.ldexp(x, -power) for x in (queries_MD, bank_ND))
    if metric == "cosine":
        rows = (np.float32(x) for x in (queries_MD, bank_ND))
        found = _nearest(*rows, np.zeros(bank_ND.shape[1], np.float32), **how)
        return found.closeness_Mc, found.index_Mc
    closeness_Mk, index_Mk = _euclidean(queries_MD, bank_ND, how)
    with np.errstate(over="ignore"):
        return jnp.asarray(np.ldexp(closeness_Mk, 2 * power)), jnp.asarray(index_Mk)


def block_rows(M: int, N: int) -> int:
    """Queries of a block: a power of two, 32 to 1,024, about _SCORES with the bank."""
    rows = min(max(_SCORES // N, 32), 1024, M)
    return 1 << (rows.bit_length() - 1)


class _Found(NamedTuple):
    """The candidates of M queries, c of them each, nearest first: k, or some more."""

    closeness_Mc: jax.Array
    index_Mc: jax.Array
    unsure_M: jax.Array  # what is no candidate might be among the k nearest
    tied_M: jax.Array  # the k nearest of the candidates might be others


@partial(jax.jit, static_argnames=("k", "metric", "block"))
def _nearest(queries_MD, bank_ND, center_D, *, k, metric, block):
    (M, D), N = queries_MD.shape, len(bank_ND)
    euclidean = metric == "euclidean"
    candidates = min(k + _SPARE, N) if euclidean else k
    # Ranking whole rows costs XLA's CPU top_k more than their products. Where groups
    # are few against the candidates, they would save nothing.
    group = _GROUP if N >= 4 * _GROUP * candidates else 1
    info = jnp.finfo(jnp.float32)
    rounding = float(info.eps) / 2
    if euclidean:
        prepared_ND = bank_ND - center_D[None, :]
        # What a product may be wrong by is at most (D + 4) rounding (|q|^2 + |b|^2):
        # with b's part in its score, the scores bound the distances from below.
        half = 0.5 - (D + 4) * rounding
        offset_N = -half * (prepared_ND**2).sum(axis=1)
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
        sure_B = jnp.zeros(len(queries_BD), bool)
        if not euclidean:
            return _Found(score_Bc, index_Bc, sure_B, sure_B)
        difference_BcD = queries_BD[:, None, :] - bank_ND[index_Bc]
        distance_Bc = (difference_BcD**2).sum(axis=-1)
        distance_Bc, index_Bc = jax.lax.sort((distance_Bc, index_Bc), num_keys=2)
        # Half the squares: of others at least, of the k-th at most, of the next at
        # least. Narrowing has moved a row by rounding times its distance to the center.
        square_B = (centered_BD**2).sum(axis=1)
        root_Bc, moved_B = jnp.sqrt(distance_Bc), 3 * rounding * jnp.sqrt(square_B)
        near, far = (1 + sign * (D + 8) * rounding for sign in (1, -1))
        # Of [:, -1] XLA's CPU top_k takes a third longer than of the same by min.
        others_B = (0.5 - (D + 8) * rounding) * square_B - score_Bc.min(axis=1)
        others_B -= 4 * D * info.tiny  # below which squares are 0
        kth_B = 0.5 * near * (root_Bc[:, k - 1] + moved_B) ** 2
        unsure_B, tied_B = sure_B, sure_B
        if N > candidates:
            unsure_B = others_B < kth_B  # not so of NaN, which no search would mend
        if candidates > k:
            next_B = 0.5 * far * jnp.maximum(root_Bc[:, k] - moved_B, 0) ** 2
            tied_B = next_B < kth_B
        return _Found(-distance_Bc, index_Bc, unsure_B, tied_B)

    padded = jnp.pad(queries_MD, ((0, -M % block), (0, 0)))
    blocks = padded.reshape(-1, block, D)
    found = jax.lax.map(of_block, blocks)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:M], found)


@np.errstate(invalid="ignore", over="ignore")  # of what is not finite
def _euclidean(queries_MD, bank_ND, how):
    """(closeness_Mk, index_Mk) of rows on the host, in units that float32 holds."""
    k, center_D = how["k"], distances.center(bank_ND)
    rows, middle_D = (queries_MD, bank_ND), center_D.astype(np.float32)
    if {x.dtype for x in rows} != {np.dtype(np.float32)}:
        rows = [(x - center_D[None, :]).astype(np.float32) for x in rows]
        middle_D = np.zeros_like(middle_D)
    found = _Found(*map(np.asarray, _nearest(*rows, middle_D, **how)))
    closeness_Mk, index_Mk = found.closeness_Mc[:, :k], found.index_Mc[:, :k]
    unsure = np.flatnonzero(found.unsure_M)
    tied = np.flatnonzero(found.tied_M & ~found.unsure_M)
    if not len(unsure) + len(tied):
        return closeness_Mk, index_Mk
    closeness_Mk, index_Mk = closeness_Mk.copy(), index_Mk.copy()
    size = max(1, _RANKED // (found.index_Mc.shape[1] * bank_ND.shape[1]))
    for start in range(0, len(tied), size):
        row_R = tied[start : start + size]
        index_Rc = found.index_Mc[row_R]
        square_Rc = exact_squares(queries_MD[row_R], bank_ND, index_Rc)
        place_Rk = np.lexsort((index_Rc, square_Rc))[:, :k]
        index_Mk[row_R] = np.take_along_axis(index_Rc, place_Rk, axis=1)
        closeness_Mk[row_R] = np.take_along_axis(
            found.closeness_Mc[row_R], place_Rk, axis=1
        )
    if len(unsure):
        if len(unsure) * bank_ND.size > _LONG:
            logger.warning(
                "float32 cannot tell the neighbours of %s of %s rows apart: they are "
                "searched in float64, which takes minutes. Features of similar scales "
                "need no such search.",
                *(f"{len(unsure):,}", f"{len(queries_MD):,}"),
            )
        closeness_Mk[unsure], index_Mk[unsure] = by_differences(
            queries_MD[unsure], bank_ND, k
        )
    return closeness_Mk, index_Mk


def exact_squares(
    queries_RD: np.ndarray, bank_ND: np.ndarray, index_Rc: np.ndarray
) -> np.ndarray:
    """|q - b|^2 in float64 of each query to the c rows listed for it, [R, c]."""
    difference_RcD = np.subtract(
        queries_RD[:, None, :], bank_ND[index_Rc], dtype=np.float64
    )
    return np.einsum("rcd,rcd->rc", difference_RcD, difference_RcD)


def by_differences(
    queries_MD: np.ndarray, bank_ND: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """(closeness_Mk, index_Mk) by |q - b|^2 in float64, for rows on the host: for few
    queries, as each takes ten times as long as in `nearest`."""
    M, N = len(queries_MD), len(bank_ND)
    size = min(_AGAIN, max(1, _SCORES // N))
    closeness_Mk, index_Mk = np.empty((M, k)), np.empty((M, k), np.int32)
    with jax.enable_x64(True):
        bank_ND = jnp.asarray(bank_ND, jnp.float64)
        for start in range(0, M, size):
            row_R = np.arange(start, start + size)
            queries_RD = jnp.asarray(queries_MD[np.minimum(row_R, M - 1)], jnp.float64)
            found = map(np.asarray, _by_differences(queries_RD, bank_ND, k=k))
            left = min(size, M - start)
            closeness_Mk[row_R[:left]], index_Mk[row_R[:left]] = (
                x_Rk[:left] for x_Rk in found
            )
    return closeness_Mk, index_Mk


@partial(jax.jit, static_argnames="k")
def _by_differences(queries_RD, bank_ND, *, k):
    closeness_Rk, index_Rk = jax.lax.top_k(-distances.squares(queries_RD, bank_ND), k)
    return closeness_Rk, index_Rk.astype(jnp.int32)


def _again(queries_MD, bank_ND, found):
    """`found`, with the unsure queries searched by differences: inside of jit, and in
    the rows' precision."""
    M, c = found.index_Mc.shape
    size = min(_AGAIN, max(1, _SCORES // len(bank_ND)), M)
    (row_P,) = jnp.nonzero(found.unsure_M, size=M + size, fill_value=M)

    def step(t, searched):
        row_R = jax.lax.dynamic_slice(row_P, (t * size,), (size,))
        queries_RD = queries_MD[jnp.minimum(row_R, M - 1)]
        those_Rc = _by_differences(queries_RD, bank_ND, k=c)
        return [
            x_Mc.at[row_R].set(x_Rc, mode="drop")
            for x_Mc, x_Rc in zip(searched, those_Rc, strict=True)
        ]

    steps = -(-found.unsure_M.sum() // size)
    searched = [found.closeness_Mc, found.index_Mc]
    closeness_Mc, index_Mc = jax.lax.fori_loop(0, steps, step, searched)
    return found._replace(closeness_Mc=closeness_Mc, index_Mc=index_Mc)


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
