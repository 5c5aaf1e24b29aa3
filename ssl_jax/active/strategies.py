"""Which images to ask labels for: pure functions on the host, of what a model says.

Settles, Active Learning Literature Survey (2009), section 3.1: least confidence, margin
and entropy. Sener and Savarese (arXiv:1708.00489): k-center on features.
"""

import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.graphs import distances, neighbors
from ssl_jax.train.parts import Query
from ssl_jax.train.sections import check_query

_BLOCK = 4096  # rows whose differences to a center are in memory at once


def entropy(probs_NK: np.ndarray) -> np.ndarray:
    """-sum_k p log p, in nats: entropy_N float64. A row is scaled to sum 1 before."""
    probs_NK = np.asarray(probs_NK, np.float64)
    probs_NK = probs_NK / probs_NK.sum(axis=1, keepdims=True)
    log_NK = np.log(np.where(probs_NK > 0, probs_NK, 1))
    return -(probs_NK * log_NK).sum(axis=1) + 0.0  # without it, a sure row has -0.0


def margin(probs_NK: np.ndarray) -> np.ndarray:
    """The largest probability less the second largest, margin_N; of one class, its
    own probability."""
    top_NK = -np.sort(-np.asarray(probs_NK, np.float64), axis=1)
    return top_NK[:, 0] - top_NK[:, 1:2].sum(axis=1)


def least_confidence(probs_NK: np.ndarray) -> np.ndarray:
    """1 less the largest probability, N."""
    return 1 - np.asarray(probs_NK, np.float64).max(axis=1)


# How much is to be learned from a row's label: the higher, the sooner it is asked.
UNCERTAINTY = {
    "entropy": entropy,
    "margin": lambda probs_NK: -margin(probs_NK),
    "least_confidence": least_confidence,
}


def k_center(features_ND: np.ndarray, centers_LD: np.ndarray, size: int) -> np.ndarray:
    """`size` rows, each the farthest from its nearest center and then a center itself:
    algorithm 1 of arXiv:1708.00489, by Euclidean distance. Of equally far ones the
    first. O(N) numbers and one pass over the features for each row picked.

    Args:
      centers_LD: the features of what is labeled; L is at least 1.

    Raises:
      UserError: there is none.
    """
    features_ND = distances.real(features_ND)
    if not len(centers_LD):
        raise UserError(
            "query.strategy='k_center' starts from the labeled images, and there is "
            "none: label one, or use 'random'."
        )
    if not size:
        return np.zeros(0, np.int64)
    closeness_N1, index_N1 = neighbors.nearest(
        features_ND, centers_LD, 1, metric="euclidean"
    )
    distance_N = -np.array(closeness_N1[:, 0], features_ND.dtype)  # squared
    if features_ND.dtype == np.float64:  # which closeness is not
        centers_LD, index_N1 = distances.real(centers_LD), np.asarray(index_N1)
        for start in range(0, len(features_ND), _BLOCK):
            block = slice(start, start + _BLOCK)
            rows = (features_ND[block], centers_LD, index_N1[block])
            distance_N[block] = neighbors.exact_squares(*rows)[:, 0]
    picked = []
    for _ in range(size):
        farthest = int(distance_N.argmax())
        picked.append(farthest)
        for start in range(0, len(features_ND), _BLOCK):
            block = slice(start, start + _BLOCK)
            difference_BD = features_ND[block] - features_ND[farthest][None, :]
            to_it_B = (difference_BD**2).sum(axis=1)
            distance_N[block] = np.minimum(distance_N[block], to_it_B)
        distance_N[picked] = -1  # not again, even where all that is left coincides
    return np.array(picked)


def choose(
    strategy: str,
    size: int,
    candidates_N: np.ndarray,
    labeled_L: np.ndarray,
    *,
    probs_NK: np.ndarray | None = None,
    features_ND: np.ndarray | None = None,
    centers_LD: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """The `size` candidates to ask about, the most telling first: rows of the pool.

    Args:
      strategy: one of `rules.STRATEGIES`.
      candidates_N: rows of the pool; those in `labeled_L` are never chosen, and none is
        chosen twice.
      labeled_L: the rows that have a label.
      probs_NK: the candidates' probabilities, for entropy, margin, least_confidence.
      features_ND, centers_LD: of the candidates and of the labeled, for k_center.
      seed: of "random", together with L: other rounds draw others, a rerun the same.

    Raises:
      UserError: the strategy is unknown, `size` is not from 1 to what is left, or a
        probability or feature is not finite.
    """
    index_N, row_N = np.unique(candidates_N, return_index=True)
    open_N = ~np.isin(index_N, labeled_L)
    index_N, row_N = index_N[open_N], row_N[open_N]
    check(strategy, size, len(index_N))
    for name, values in (("probs", probs_NK), ("features", features_ND)):
        if values is not None and not np.isfinite(values).all():
            bad = np.asarray(candidates_N)[~np.isfinite(values).all(axis=1)][0]
            raise UserError(
                f"the {name} of image {bad} are not finite: the training has diverged, "
                "or its features hold such a value."
            )
    if strategy == "random":
        rng = np.random.default_rng([seed, len(labeled_L)])
        return rng.choice(index_N, size, replace=False)
    if strategy == "k_center":
        return index_N[k_center(features_ND[row_N], centers_LD, size)]
    score_N = UNCERTAINTY[strategy](probs_NK[row_N])
    return index_N[np.argsort(-score_N, kind="stable")[:size]]


def check(strategy: str, size: int, num_candidates: int | None = None) -> None:
    """Raises UserError unless the strategy is known and so many can be asked about."""
    check_query(Query(strategy=strategy, size=size, rounds=0), num_candidates)
