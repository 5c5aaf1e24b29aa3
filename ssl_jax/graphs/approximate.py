"""Nearest neighbours among very many rows, most of them right."""

import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.graphs import distances, neighbors

# Edges and candidates of approximate search. Of 7 neighbours among 100,000 rows of 64
# features in 10 Gaussian clusters, for which nothing is harder, it finds 97.5%.
HNSW_LINKS, HNSW_SEARCH = 32, 64
# Cells of k-means that order the rows, so that neighbours lie near in memory: then a
# search takes half as long.
CELLS = 256
_SPARE = 8  # neighbours beyond k, which tell whether float32 sees a difference
_MARGIN = 8  # times the rounding: a difference that is seen
# Rows times rows times features of what is searched exactly: some minutes.
_LARGEST_AGAIN = 1e12


def neighbor_lists(features_ND: np.ndarray, k: int) -> np.ndarray:
    """index_Nk of each row's k nearest, itself among them, by faiss' graph of small
    worlds (Malkov and Yashunin, arXiv:1603.09320) on the host's cores.

    faiss has float32 alone. Rows of which that cannot tell the neighbours apart are
    searched exactly.

    Raises:
      UserError: faiss is not installed, or there are too many such rows.
    """
    try:
        import faiss  # only here: it is large, and most runs do without
    except ImportError as error:
        raise UserError(
            "approximate neighbours are found by faiss, which is not installed: pip "
            "install faiss-cpu, or use graph='exact'."
        ) from error
    features_ND = distances.real(features_ND)
    features_ND = np.ldexp(features_ND, -distances.exponent(features_ND))
    center_D = distances.center(features_ND)
    centered_ND = features_ND - center_D[None, :].astype(features_ND.dtype)
    narrow_ND = np.ascontiguousarray(centered_ND, np.float32)
    (N, D), c = narrow_ND.shape, min(k + _SPARE, len(narrow_ND))
    cells = faiss.Kmeans(
        *(D, min(CELLS, -(-N // 64))),
        **dict(niter=5, min_points_per_centroid=1, max_points_per_centroid=64),
    )
    cells.train(narrow_ND)
    order_N = np.argsort(cells.assign(narrow_ND)[1], kind="stable")
    narrow_ND = narrow_ND[order_N]
    index = faiss.IndexHNSWFlat(D, HNSW_LINKS)
    index.add(narrow_ND)
    index.hnsw.efSearch = max(HNSW_SEARCH, 2 * k)
    square_Nc, place_Nc = (np.empty((N, c), x) for x in (np.float64, np.int64))
    square_Nc[order_N], place_Nc[order_N] = index.search(narrow_ND, c)
    # Fewer than asked for are found as -1: the row itself instead, which then has fewer
    # neighbours.
    index_Nc = np.where(place_Nc < 0, np.arange(N)[:, None], order_N[place_Nc])
    error_N = _errors(narrow_ND[np.argsort(order_N)], square_Nc[:, -1])
    close_N = (place_Nc >= 0).all(axis=1)
    close_N &= square_Nc[:, min(k, c - 1)] - square_Nc[:, k - 1] <= error_N
    index_Nk, missed = index_Nc[:, :k].astype(np.int32), [np.zeros(0, int)]
    size = max(1, 2**22 // (c * D))
    for start in range(0, close_N.sum(), size):
        row_R = np.flatnonzero(close_N)[start : start + size]
        square_Rc = neighbors.exact_squares(
            features_ND[row_R], features_ND, index_Nc[row_R]
        )
        place_Rc = np.lexsort((index_Nc[row_R], square_Rc))
        index_Rc = np.take_along_axis(index_Nc[row_R], place_Rc, axis=1)
        square_Rc = np.take_along_axis(square_Rc, place_Rc, axis=1)
        index_Nk[row_R] = index_Rc[:, :k]
        # Where even the last is no farther than the k-th, others may be as near; of
        # what is equally far in float64, too, it does not matter which.
        last_R, spread_R = square_Rc[:, -1], square_Rc[:, -1] - square_Rc[:, k - 1]
        equal_R = spread_R <= 16 * np.finfo(np.float64).eps * last_R
        missed.append(row_R[(spread_R <= error_N[row_R]) & ~equal_R])
    missed = np.concatenate(missed)
    if len(missed) * N * D > _LARGEST_AGAIN:
        raise UserError(
            "float32, which approximate search has alone, cannot tell the neighbours "
            f"of {len(missed):,} of {N:,} rows apart, such as row {missed[0]}: use "
            "graph='exact', or bring the features to similar scales."
        )
    if len(missed):
        _, index_Nk[missed] = neighbors.by_differences(
            features_ND[missed], features_ND, k
        )
    return index_Nk


def _errors(narrow_ND, square_N):
    """What float32 may make of a squared distance of each row, N: by its sum, and by
    having moved the rows, of which it may take different ones for the same."""
    rounding = _MARGIN * np.finfo(np.float32).eps / 2
    moved_N = rounding * np.linalg.norm(narrow_ND, axis=1)
    summed_N = rounding * np.sqrt(narrow_ND.shape[1]) * square_N
    return summed_N + 2 * moved_N * np.sqrt(square_N) + moved_N**2
