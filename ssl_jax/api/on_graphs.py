"""Estimators of scikit-learn's, by this project's graphs: labels that flow.

Parameters, attributes and their meanings are those of `sklearn.semi_supervised`'s
classes of the same names, so that one import is all that changes. What they add is
metric="precomputed", where X is a graph already.
"""

import warnings
from types import ModuleType
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ssl_jax.algorithms import label_propagation, label_spreading
from ssl_jax.errors import UserError
from ssl_jax.graphs import problem, propagation
from ssl_jax.graphs.problem import PRECOMPUTED, UNLABELED, Similarity

_LARGEST = 2**30  # numbers that a sparse X may become as an array: 8 GiB


class _OnGraph(ClassifierMixin, BaseEstimator):
    """What the two share: all but their parameters and the method."""

    _method: ClassVar[ModuleType]
    _loops: ClassVar[bool]  # whether a point hears from itself

    def fit(self, X, y):
        """Lets the labels of `y` flow to the points that have none.

        Args:
          X: [n_samples, n_features], an array or a sparse matrix (which is made an
            array, but for a kernel of yours); with metric="precomputed" the graph,
            [n_samples, n_samples], X[i, j] >= 0 what i hears from j: similarities or an
            adjacency, not distances; sparse ones stay so.
          y: n_samples classes, -1 where there is none.

        Returns:
          The estimator itself.

        Raises:
          ValueError: X or y is none of these, no point has a label, or a parameter is
            out of range (UserError, which is one).
        """
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], ensure_min_samples=2
        )
        check_classification_targets(y)
        labeled_N = np.asarray(y != UNLABELED)
        classes_K, codes = np.unique(y[labeled_N], return_inverse=True)
        labels_N = np.full(len(y), UNLABELED)
        labels_N[labeled_N] = codes
        self.X_ = X
        features_ND, similarity = self._graph()
        solution = self._method.solve(
            features_ND,
            labels_N,
            **similarity._asdict(),
            **self._options(),
            max_iter=self.max_iter,
            tol=self.tol,
        )
        if not solution.converged:
            warnings.warn(
                f"max_iter={self.max_iter} was reached without convergence.",
                category=ConvergenceWarning,
                stacklevel=2,
            )
        self._solution = solution
        self.classes_ = classes_K
        self.label_distributions_ = _float64(solution.distributions_NK)
        self.transduction_ = classes_K[self.label_distributions_.argmax(axis=1)]
        self.n_iter_ = solution.products
        return self

    def predict(self, X):
        """The likeliest class of each row of X, by `predict_proba`."""
        probs_MK = self.predict_proba(X)
        return self.classes_[probs_MK.argmax(axis=1)]

    def predict_proba(self, X):
        """[n_samples, n_classes]: the mean of what is said of the fitted points,
        weighted by the kernel, or of the nearest ones; 0 of a point that no label
        reaches.

        Args:
          X: [n_samples, n_features]; with metric="precomputed" the points' weights to
            those fitted, [n_samples, n_samples_fit].
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        if self._is_function():
            new_MD, features_ND = self.kernel(self.X_, X).T, None
        elif self.metric == PRECOMPUTED:
            new_MD, features_ND = X, None
        else:
            new_MD, features_ND = _array(X), _array(self.X_)
        return _float64(propagation.inductive(new_MD, features_ND, self._solution))

    def _graph(self):
        """The features, or the weights, and how they make a graph."""
        kernel, form = self.kernel, "auto"
        if self.metric not in ("euclidean", PRECOMPUTED):
            raise UserError(
                f"metric={self.metric!r}: use 'euclidean', or 'precomputed' for an X "
                "of weights; for another one kernel=a function of (X, Y)."
            )
        if self._is_function():
            features_ND, kernel = self.kernel(self.X_, self.X_), PRECOMPUTED
        elif self.metric == PRECOMPUTED:
            features_ND, kernel = self.X_, PRECOMPUTED
            _warn_of_distances(features_ND)
        else:
            problem.check_kernel(kernel, self.gamma, self.n_neighbors)
            features_ND = _array(self.X_)
        return features_ND, Similarity(kernel, self.gamma, self.n_neighbors, form)

    def _is_function(self):
        return callable(self.kernel) and self.metric != PRECOMPUTED

    def _options(self):
        return {}

    def _build_graph(self):
        """The matrix that labels flow by, as an array: what those call who compare
        with scikit-learn's own."""
        features_ND, similarity = self._graph()
        labels_N = np.zeros(self.X_.shape[0], int)
        with problem.posed(features_ND, labels_N, similarity, loops=self._loops) as of:
            eye_NN = np.eye(len(labels_N), dtype=of.labels_NK.dtype)
            matrix_NN = np.asarray(problem.product(of.graph, eye_NN))
            root_N = np.exp(0.5 * np.asarray(of.graph.log_degree_N))
        return self._normalized(matrix_NN, root_N)

    def _normalized(self, matrix_NN, root_N):
        return matrix_NN

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.pairwise = self.metric == PRECOMPUTED
        tags.input_tags.positive_only = self.metric == PRECOMPUTED
        return tags


class LabelSpreading(_OnGraph):
    """Labels flow along a graph, and given ones may be overruled (Zhou et al., 2003).

        LabelSpreading(kernel="knn").fit(X, y).transduction_

    Args:
      kernel: "rbf", exp(-gamma |x - y|^2); "knn", 1 to the n_neighbors nearest; or a
        function of (X, Y) that gives their weights, [len(X), len(Y)], dense or sparse.
      gamma: of rbf, positive.
      n_neighbors: of knn, the point itself among them.
      alpha: the share of its neighbours in a point's distribution, in (0, 1).
      max_iter: products with the graph, at most.
      tol: of the sum of |changes|, below which it has converged.
      n_jobs: has no effect: JAX takes all cores, or the accelerator.
      metric: "precomputed": X is the graph, and kernel says nothing.

    Attributes:
      X_, classes_, label_distributions_ [n_samples, n_classes], transduction_, n_iter_,
      n_features_in_, feature_names_in_: as scikit-learn's.
    """

    _method, _loops = label_spreading, False

    def __init__(
        self,
        kernel="rbf",
        *,
        gamma=20,
        n_neighbors=7,
        alpha=0.2,
        max_iter=30,
        tol=1e-3,
        n_jobs=None,
        metric="euclidean",
    ):
        self.kernel = kernel
        self.gamma = gamma
        self.n_neighbors = n_neighbors
        self.alpha = alpha
        self.max_iter = max_iter
        self.tol = tol
        self.n_jobs = n_jobs
        self.metric = metric

    def _options(self):
        return {"alpha": self.alpha}


class LabelPropagation(_OnGraph):
    """Labels flow along a graph, and given ones stay (Zhu and Ghahramani, 2002).

    Parameters and attributes are `LabelSpreading`'s, but for alpha.
    """

    _method, _loops = label_propagation, True

    def __init__(
        self,
        kernel="rbf",
        *,
        gamma=20,
        n_neighbors=7,
        max_iter=1000,
        tol=1e-3,
        n_jobs=None,
        metric="euclidean",
    ):
        self.kernel = kernel
        self.gamma = gamma
        self.n_neighbors = n_neighbors
        self.max_iter = max_iter
        self.tol = tol
        self.n_jobs = n_jobs
        self.metric = metric

    def _normalized(self, matrix_NN, root_N):
        return matrix_NN * root_N[None, :] / root_N[:, None]


def _array(X):
    """Dense rows.

    Raises:
      UserError: they would not fit in memory.
    """
    if not hasattr(X, "toarray"):
        return X
    if np.prod(X.shape, dtype=float) > _LARGEST:
        raise UserError(
            f"X is a sparse matrix of shape {X.shape}, which as an array takes more "
            "than 8 GiB: bring it to fewer columns by TruncatedSVD, or give its graph "
            "by metric='precomputed'."
        )
    return X.toarray()


def _warn_of_distances(weights_NN):
    """As other estimators' metric="precomputed" takes them."""
    dense = isinstance(weights_NN, np.ndarray) and weights_NN.shape[0] > 2
    if not dense or weights_NN.shape[0] != weights_NN.shape[1]:
        return
    if not weights_NN.diagonal().any() and np.count_nonzero(weights_NN) == (
        weights_NN.size - len(weights_NN)
    ):
        warnings.warn(
            "X is 0 on its diagonal and nowhere else, as distances are: here it holds "
            "similarities, such as np.exp(-gamma * distances**2).",
            stacklevel=4,
        )


def _float64(distributions_NK):
    """Rows that sum to 1 as float64 sees it, or are 0."""
    distributions_NK = np.asarray(distributions_NK, np.float64)
    sum_N1 = distributions_NK.sum(axis=1, keepdims=True)
    return distributions_NK / np.where(sum_N1 == 0, 1, sum_N1)
