"""Which images to ask labels for: pure functions on the host, of what a model says.

Settles, Active Learning Literature Survey (2009), section 3.1: least confidence, margin
and entropy. Sener and Savarese (arXiv:1708.00489): k-center on features. Hacohen,
Dekel and Weinshall (arXiv:2202.02794): what is typical, where there are few labels.
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
# What spreads its questions over features, and asks nothing of a classifier.
COVERING = ("k_center", "typical")

# TypiClust's, in its paper's appendix and code.
_CLUSTERS = 500  # at most
_EXACT = 50  # clusters found by k-means on all rows; more of them by mini-batches
_SMALLEST = 5  # rows of a cluster that is asked about, while there is a larger one
_NEAREST = 20  # rows by whose distance a row is typical


def k_center(features_ND: np.ndarray, centers_LD: np.ndarray, size: int) -> np.ndarray:
    """`size` rows, each the farthest from its nearest center and then a center itself:
    algorithm 1 of arXiv:1708.00489, by Euclidean distance. Of equally far ones the
    first. O(N) numbers and one pass over the features for each row picked.

    Args:
      centers_LD: the features of what is labeled. Where nothing is, the first row
        picked is the one nearest to the mean of all, which the paper leaves open.
    """
    features_ND = distances.real(features_ND)
    if not size:
        return np.zeros(0, np.int64)
    if not len(centers_LD):
        middle = _middle(features_ND)
        others = np.delete(np.arange(len(features_ND)), middle)
        center_1D = features_ND[[middle]]
        rest = k_center(features_ND[others], center_1D, size - 1)
        return np.array([middle, *others[rest]])
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


def typical(
    features_ND: np.ndarray, centers_LD: np.ndarray, size: int, seed: int = 0
) -> np.ndarray:
    """`size` rows, each the most typical of a cluster that has none yet, the largest
    cluster first: TypiClust, arXiv:2202.02794, section 3.

    All rows, labeled or not, are parted into L + size clusters. In turn that cluster
    of the fewest labeled rows, and of those the largest, gives the row whose nearest
    neighbours in the cluster are nearest on average. Where k-center takes outliers
    first, this never does.

    Departure: features are standardised, as a linear probe sees them, where the paper
    scales each row to length 1.

    Args:
      centers_LD: the features of what is labeled; L may be 0.
      seed: of k-means.
    """
    # Here because they take seconds, which no other strategy need pay.
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if not size:
        return np.zeros(0, np.int64)
    N, rows_MD = len(features_ND), np.concatenate([features_ND, centers_LD])
    rows_MD = np.float64(rows_MD) - rows_MD.mean(axis=0, dtype=np.float64)[None, :]
    spread_D = rows_MD.std(axis=0)
    rows_MD /= np.where(spread_D > 0, spread_D, 1)[None, :]
    num_clusters = min(
        len(centers_LD) + size, _CLUSTERS, len(np.unique(rows_MD, axis=0))
    )
    kind = KMeans if num_clusters <= _EXACT else MiniBatchKMeans
    found = kind(num_clusters, n_init=10, random_state=seed).fit(rows_MD)
    cluster_M, left_C = (
        found.labels_,
        np.bincount(found.labels_[:N], minlength=num_clusters),
    )
    size_C = np.bincount(cluster_M, minlength=num_clusters)
    labeled_C = np.bincount(cluster_M[N:], minlength=num_clusters)
    order_C = {}
    picked = []
    for _ in range(size):
        open_C = np.flatnonzero(left_C)
        c = min(
            open_C, key=lambda c: (size_C[c] < _SMALLEST, labeled_C[c], -size_C[c], c)
        )
        if c not in order_C:
            order_C[c] = iter(
                _by_typicality(rows_MD, np.flatnonzero(cluster_M == c), N)
            )
        picked.append(next(order_C[c]))
        labeled_C[c] += 1
        left_C[c] -= 1
    return np.array(picked)


def _by_typicality(rows_MD, members, N):
    """Those of the rows `members` that are candidates, the first N, by typicality."""
    k = min(_NEAREST + 1, len(members))  # itself is the nearest
    of_cluster_mD = rows_MD[members]
    closeness_mk, _ = neighbors.nearest(
        of_cluster_mD, of_cluster_mD, k, metric="euclidean"
    )
    distance_m = np.sqrt(-np.minimum(np.asarray(closeness_mk), 0)).sum(axis=1)
    order = members[np.argsort(distance_m, kind="stable")]
    return order[order < N].tolist()


def _middle(features_ND):
    """The row nearest to the mean of all, the first of equally near ones."""
    mean_1D = features_ND.mean(axis=0, dtype=np.float64)[None, :]
    squares = [
        ((features_ND[start : start + _BLOCK] - mean_1D) ** 2).sum(axis=1)
        for start in range(0, len(features_ND), _BLOCK)
    ]
    return int(np.concatenate(squares).argmin())


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
      features_ND, centers_LD: of the candidates and of the labeled, for k_center and
        typical.
      seed: of typical; and of random, together with L: other rounds draw others, a
        rerun the same.

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
    if strategy == "typical":
        return index_N[typical(features_ND[row_N], centers_LD, size, seed)]
    score_N = UNCERTAINTY[strategy](probs_NK[row_N])
    return index_N[np.argsort(-score_N, kind="stable")[:size]]


def check(strategy: str, size: int, num_candidates: int | None = None) -> None:
    """Raises UserError unless the strategy is known and so many can be asked about."""
    check_query(Query(strategy=strategy, size=size, rounds=0), num_candidates)
