"""Neighbours and labels are scikit-learn's on numbers as people have them: far from 0,
from each other, and in any unit."""

import warnings

import numpy as np
import pytest
from sklearn import semi_supervised
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors

from ssl_jax.algorithms import label_propagation, label_spreading
from ssl_jax.graphs import approximate, neighbors

N = 500


def bad_cell(x_ND):
    x_ND[-1, 0] = 9_999_999
    return x_ND, 1


def two_rows_of_another_scale(x_ND):
    x_ND[-2:] *= 1e6
    return x_ND, 1


def far_row(x_ND):
    return x_ND + 1e4 * np.eye(N, 3, -N + 1), 1


def metres(x_ND):
    return 100 * x_ND + 500_000, 100


def nanoseconds(x_ND):  # days around a day of 2023
    return (1_700_000_000_000_000_000 + 86_400e9 * x_ND).astype(np.int64), 86_400e9


def huge(x_ND):
    return 1e18 * x_ND, 1e18


def tiny(x_ND):
    return 1e-21 * x_ND, 1e-21


def two_places(x_ND):  # and float32 holds no center for both
    x_ND[::2] += 1e5
    return x_ND, 1


DATA = [
    *(bad_cell, two_rows_of_another_scale, far_row, metres, nanoseconds),
    *(huge, tiny, two_places),
]


def clusters():
    """Overlapping, and so that neighbours decide."""
    rng = np.random.default_rng(0)
    truth_N = rng.integers(0, 4, N)
    x_ND = rng.normal(size=(4, 3))[truth_N] + 0.6 * rng.normal(size=(N, 3))
    return x_ND, np.where(np.arange(N) < 60, truth_N, -1)


@pytest.mark.parametrize("data", DATA)
def test_neighbours(data):
    x_ND, _ = data(clusters()[0])
    index = NearestNeighbors(n_neighbors=7, algorithm="kd_tree").fit(x_ND)
    expected_N7 = np.sort(index.kneighbors(x_ND, return_distance=False))
    _, exact_N7 = neighbors.nearest(x_ND, x_ND, 7, metric="euclidean")
    equal_N = (np.sort(exact_N7) == expected_N7).all(axis=1)
    assert equal_N.mean() >= 0.999
    found_N7 = approximate.neighbor_lists(x_ND, 7)
    shared = [np.isin(*pair).mean() for pair in zip(expected_N7, found_N7, strict=True)]
    assert np.mean(shared) >= 0.999


def test_one_bad_cell_among_digits():
    """The values are scikit-learn's own."""
    features_ND, truth_N = load_digits(return_X_y=True)
    features_ND, truth_N = features_ND[:600] / 16, truth_N[:600]
    labels_N = np.where(np.arange(600) < 60, truth_N, -1)
    features_ND[599, 0] = 9_999_999
    given = (features_ND, labels_N)
    for graph in ("exact", "approximate"):
        said_N = label_spreading.transduce(*given, kernel="knn", graph=graph)
        assert round((said_N == truth_N)[60:599].mean(), 3) == 0.861
    new_N = label_spreading.predict(features_ND[60:], *given, kernel="knn")
    assert round((new_N == truth_N[60:])[:-1].mean(), 3) == 0.905


@pytest.mark.parametrize(
    ("method", "kernel", "graph", "data"),
    [
        *(("Spreading", "knn", "exact", data) for data in DATA),
        *(("Propagation", "knn", "approximate", data) for data in DATA),
        *(("Spreading", "rbf", "dense", data) for data in DATA),
        ("Propagation", "rbf", "blocks", bad_cell),
        ("Propagation", "rbf", "blocks", nanoseconds),
        ("Propagation", "rbf", "blocks", two_places),
    ],
)
def test_labels(method, kernel, graph, data):
    x_ND, labels_N = clusters()
    x_ND, unit = data(x_ND)
    options = dict(kernel=kernel, gamma=2 / unit**2, n_neighbors=7, max_iter=10)
    module = dict(Spreading=label_spreading, Propagation=label_propagation)[method]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = getattr(semi_supervised, f"Label{method}")(**options).fit(x_ND, labels_N)
    solution = module.solve(x_ND, labels_N, graph=graph, **options)
    assert (solution.labels_N == fit.transduction_).mean() >= 0.999
    assert len(np.unique(solution.labels_N)) == 4
