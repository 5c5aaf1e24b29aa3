"""From features and labels to a graph: checks, how to hold it, and on which devices."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import AxisType

from ssl_jax.errors import UserError
from ssl_jax.graphs import affinity, neighbors
from ssl_jax.graphs.neighbors import neighbor_lists

UNLABELED = -1
# Rows of a dense float64 matrix: 128 MiB and, while it is computed, three times that.
LARGEST_DENSE = 4096
# Rows times rows times features of an exact search: 60,000 MNIST images, a minute or
# two on two cores; a million rows of 64 features would take half an hour.
LARGEST_EXACT = 3e12


class Similarity(NamedTuple):
    """Between rows: see `label_spreading.solve` for what the fields mean."""

    kernel: str
    gamma: float
    n_neighbors: int
    graph: str


class Problem(NamedTuple):
    """A graph and the labels granted on it, in one precision."""

    graph: affinity.Graph
    labels_NK: jax.Array  # one-hot; rows without a label are 0
    classes_K: np.ndarray
    similarity: Similarity  # its graph no longer "auto"


def check_kernel(kernel: str, gamma: float, n_neighbors: int) -> None:
    """Raises UserError where one is out of range."""
    if kernel not in ("rbf", "knn"):
        raise UserError(
            f"kernel={kernel!r}: use 'rbf' or 'knn'; functions are not supported."
        )
    if not 0 < gamma < np.inf:
        raise UserError(f"gamma={gamma}: use a positive, finite one, such as 0.1.")
    if n_neighbors != int(n_neighbors) or n_neighbors < 1:
        raise UserError(f"n_neighbors={n_neighbors}: use a whole number from 1.")


@contextlib.contextmanager
def posed(
    features_ND: np.ndarray,
    labels_N: np.ndarray,
    similarity: Similarity,
    *,
    loops: bool,
) -> Iterator[Problem]:
    """The `Problem`, and inside of the block the precision and the devices for it.

    Raises:
      UserError: see `label_spreading.solve`.
    """
    kernel, gamma, n_neighbors, form = similarity
    check_kernel(kernel, gamma, n_neighbors)
    features_ND = checked_features(features_ND)
    N = len(features_ND)
    classes_K, one_hot_NK = _checked_labels(labels_N, N)
    if kernel == "knn" and n_neighbors > N:
        raise UserError(
            f"n_neighbors={n_neighbors} of {N:,} rows: use at most {N:,}; a row counts "
            "among its own."
        )
    form = _form(form, kernel, features_ND.shape)
    with setting(form):
        if kernel == "knn":
            index_Nk = neighbor_lists(centered(features_ND), n_neighbors, form)
            built = affinity.listed(jnp.asarray(index_Nk), loops=loops)
        else:
            build = affinity.dense if form == "dense" else affinity.blocks
            z_ND = scaled(features_ND, center(features_ND), gamma, form)
            built = build(jnp.asarray(z_ND), loops=loops)
            _check_reach(built, features_ND, gamma, form)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(built))
        logging.info(
            "kernel=%s on %s rows: graph=%s, %s, %.1f MB.",
            *(kernel, f"{N:,}", form, np.dtype(dtype(form)), size / 1e6),
        )
        labels_NK = jnp.asarray(one_hot_NK, dtype(form))
        yield Problem(built, labels_NK, classes_K, similarity._replace(graph=form))


def checked_features(features_ND: np.ndarray, least: int = 2) -> np.ndarray:
    """Floating point features of `least` rows or more.

    Raises:
      UserError: they are not, or not finite.
    """
    features_ND = np.asarray(features_ND)
    if features_ND.ndim != 2 or len(features_ND) < least:
        raise UserError(
            f"features of shape {features_ND.shape}: give [rows, features], and at "
            f"least {least} rows."
        )
    if features_ND.dtype not in (np.float32, np.float64):
        features_ND = features_ND.astype(np.float32)
    finite_N = np.isfinite(features_ND.sum(axis=1, dtype=np.float64))
    if not finite_N.all():
        rows = np.flatnonzero(~finite_N)
        raise UserError(
            f"features of {len(rows):,} rows, the first of them row {rows[0]}, hold "
            "NaN or infinity: leave these rows out or fill them in."
        )
    return features_ND


def _checked_labels(labels_N, N):
    """(classes_K, one_hot_NK bool)."""
    labels_N = np.asarray(labels_N)
    if labels_N.shape != (N,) or not np.issubdtype(labels_N.dtype, np.integer):
        raise UserError(
            f"labels are {labels_N.dtype} of shape {labels_N.shape}: give {N} integers,"
            f" one for each row, {UNLABELED} where there is none."
        )
    classes_K = np.unique(labels_N[labels_N != UNLABELED])
    if not len(classes_K):
        raise UserError(
            f"all {N} labels are {UNLABELED}, which marks rows without one: label at "
            "least one row of each class."
        )
    return classes_K, labels_N[:, None] == classes_K[None, :]


def _form(graph, kernel, shape):
    """How to hold the graph."""
    N, D = shape
    forms = ("dense", "blocks") if kernel == "rbf" else ("exact", "approximate")
    if graph == "auto":
        small = N <= LARGEST_DENSE if kernel == "rbf" else N * N * D <= LARGEST_EXACT
        return forms[0] if small else forms[1]
    if graph not in forms:
        raise UserError(
            f"graph={graph!r} for kernel={kernel!r}: use 'auto', {forms[0]!r} or "
            f"{forms[1]!r}."
        )
    return graph


def dtype(form: str) -> type:
    """float64 for the dense form: at the tutorial's gamma rows underflow in float32."""
    return np.float64 if form == "dense" else np.float32


@contextlib.contextmanager
def setting(form: str) -> Iterator[None]:
    """float64 on one device where the graph is dense; else all devices, unless the
    caller has chosen them by `jax.set_mesh`."""
    if form == "dense":
        with jax.enable_x64(True):
            yield
    elif jax.device_count() == 1 or not jax.sharding.get_abstract_mesh().empty:
        yield
    else:
        axes = ((jax.device_count(),), ("data",))
        with jax.set_mesh(jax.make_mesh(*axes, axis_types=(AxisType.Auto,))):
            yield


def center(features_ND: np.ndarray) -> np.ndarray:
    """center_D, float64: distances do not need it, but float32 does."""
    return features_ND.mean(axis=0, dtype=np.float64)


def centered(features_ND: np.ndarray, center_D: np.ndarray | None = None) -> np.ndarray:
    """x - center, in the precision of x."""
    center_D = center(features_ND) if center_D is None else center_D
    return features_ND - center_D[None, :].astype(features_ND.dtype)


def scaled(
    features_ND: np.ndarray, center_D: np.ndarray, gamma: float, form: str
) -> np.ndarray:
    """z_ND of affinity.py, sqrt(2 gamma) (x - center), in the form's precision."""
    centered_ND = np.subtract(features_ND, center_D[None, :], dtype=dtype(form))
    return centered_ND * dtype(form)(np.sqrt(2 * gamma))


def _check_reach(graph, features_ND, gamma, form):
    """Raises UserError where all of a row's similarities to others underflow.

    A sum of weights W_ij above tiny N^2 tells that the largest S_ij is above tiny, so
    that most graphs need not spend a product on this.
    """
    N, info = len(features_ND), np.finfo(dtype(form))
    degree = np.asarray(graph.log_degree_N)
    limit = -np.log(info.tiny) - 2 * np.log(N)
    if not graph.loop_N.any() and degree.min() > -limit:
        return
    without_loops = graph.replace(loop_N=jnp.zeros_like(graph.loop_N))
    ones_N1 = jnp.ones((N, 1), info.dtype)
    reach_N = np.asarray(product(without_loops, ones_N1))[:, 0]
    rows = np.flatnonzero(~(reach_N > 0))
    if not len(rows):
        return
    closeness_M2, _ = neighbors.nearest(
        features_ND[rows], features_ND, 2, metric="euclidean"
    )
    farthest = -float(closeness_M2[:, 1].min())
    larger = " or graph='dense' (float64)" if form == "blocks" else ""
    raise UserError(
        f"gamma={gamma} is too large: all similarities of {len(rows):,} of {N:,} rows, "
        f"the first of them row {rows[0]}, to other rows underflow {info.dtype}. Use "
        f"gamma={0.5 * limit / farthest:.2g} or smaller{larger}, or scale the features."
    )


@jax.jit
def product(graph: affinity.Graph, dense_NK: jax.Array) -> jax.Array:
    """S dense, [N, K]."""
    return graph.product(dense_NK)
