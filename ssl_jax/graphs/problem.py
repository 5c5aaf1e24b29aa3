"""From features and labels to a graph: checks, how to hold it, and on which devices."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from ssl_jax.errors import UserError
from ssl_jax.graphs import affinity, approximate, distances, given, neighbors

logger = logging.getLogger(__name__)

UNLABELED = -1
PRECOMPUTED = "precomputed"  # a kernel: the features are the weights themselves
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
    if kernel == PRECOMPUTED:
        with _posed_on(features_ND, labels_N, similarity, loops) as problem:
            yield problem
        return
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
    if kernel == "rbf":
        z_ND = scaled((features_ND,), features_ND, gamma, form)[0]
        precision = z_ND.dtype
    else:
        precision = np.dtype(np.float32)
    with setting(form, precision):
        if kernel == "knn":
            if form == "exact":
                rows = (features_ND, features_ND, n_neighbors)
                _, index_Nk = neighbors.nearest(*rows, metric="euclidean")
            else:
                index_Nk = approximate.neighbor_lists(features_ND, n_neighbors)
            built = affinity.listed(jnp.asarray(index_Nk), loops=loops)
        else:
            build = affinity.dense if form == "dense" else affinity.blocks
            built = build(jnp.asarray(z_ND), loops=loops, careful=careful(z_ND))
            built = _reached(built, features_ND, gamma)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(built))
        logger.info(
            "kernel=%s on %s rows: graph=%s, %s, %.1f MB.",
            *(kernel, f"{N:,}", form, precision, size / 1e6),
        )
        labels_NK = jnp.asarray(one_hot_NK, precision)
        yield Problem(built, labels_NK, classes_K, similarity._replace(graph=form))


@contextlib.contextmanager
def _posed_on(weights_NN, labels_N, similarity, loops):
    """`posed`, of the graph that a matrix of weights is; in float64."""
    weights_NN = given.checked(weights_NN)
    classes_K, one_hot_NK = _checked_labels(labels_N, weights_NN.shape[0])
    with setting("dense", np.dtype(np.float64)):
        built = given.graph(weights_NN, loops=loops)
        form = "dense" if isinstance(built, affinity.Dense) else "sparse"
        labels_NK = jnp.asarray(one_hot_NK, jnp.float64)
        yield Problem(built, labels_NK, classes_K, similarity._replace(graph=form))


def checked_features(features_ND: np.ndarray, least: int = 2) -> np.ndarray:
    """Features of `least` rows or more, as `distances.real` has them.

    Raises:
      UserError: they are not, or not finite.
    """
    features_ND = distances.real(features_ND)
    if features_ND.ndim != 2 or len(features_ND) < least or not features_ND.size:
        raise UserError(
            f"features of shape {features_ND.shape}: give [rows, features], at least "
            f"{least} rows, and a feature."
        )
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


@contextlib.contextmanager
def setting(form: str, precision: np.dtype) -> Iterator[None]:
    """float64 if asked for; one device where the graph is dense; else all devices,
    unless the caller has chosen them by `jax.set_mesh`."""
    with contextlib.ExitStack() as entered:
        if precision == np.float64:
            entered.enter_context(jax.enable_x64(True))
        chosen = not jax.sharding.get_abstract_mesh().empty
        if form != "dense" and jax.device_count() > 1 and not chosen:
            axes = ((jax.device_count(),), ("data",))
            mesh = jax.make_mesh(*axes, axis_types=(AxisType.Auto,))
            entered.enter_context(jax.set_mesh(mesh))
        yield


def scaled(
    sets: Sequence[np.ndarray], features_ND: np.ndarray, gamma: float, form: str
) -> list[np.ndarray]:
    """z of affinity.py, sqrt(2 gamma) (x - center), for each set of rows: float64 where
    the form is dense, as at the tutorial's gamma rows underflow in float32; and where
    rows are so far from the center of the features that float32 would show."""
    center_D, root = distances.center(features_ND), np.sqrt(2 * gamma)

    def of(rows_MD, precision):
        # What is float64 is narrowed when it is scaled.
        wide = np.float64 if rows_MD.dtype == np.float64 else precision
        centered_MD = np.subtract(rows_MD, center_D[None, :], dtype=wide)
        with np.errstate(over="ignore"):
            return (centered_MD * wide(root)).astype(precision, copy=False)

    if form == "blocks" and np.isfinite(np.float32(root)):
        narrow = [of(rows_MD, np.float32) for rows_MD in sets]
        if not any(map(careful, narrow)):
            return narrow
    return [of(rows_MD, np.float64) for rows_MD in sets]


def careful(z_ND: np.ndarray) -> bool:
    """Whether any row is too far from the center for products (`affinity`)."""
    with np.errstate(over="ignore"):
        square_N = np.einsum("nd,nd->n", z_ND, z_ND)
    return bool(distances.is_far(square_N, z_ND.shape[1]).any())


def _reached(graph, features_ND, gamma):
    """The graph; rows whose similarities to all others underflow are named, and have
    degree 1.

    A sum of weights W_ij above tiny N^2 tells that the largest S_ij is above tiny, so
    that most graphs need not spend a product on this.

    Raises:
      UserError: they are more than half of the rows.
    """
    N, info = len(features_ND), np.finfo(graph.log_degree_N.dtype)
    degree = np.asarray(graph.log_degree_N)
    limit = -np.log(info.tiny) - 2 * np.log(N)
    if not np.asarray(graph.loop_N).any() and degree.min() > -limit:
        return graph
    without_loops = graph.replace(loop_N=jnp.zeros_like(graph.loop_N))
    ones_N1 = jnp.ones((N, 1), info.dtype)
    reach_N = np.asarray(product(without_loops, ones_N1))[:, 0]
    lost_N = ~(reach_N > 0)
    if not lost_N.any():
        return graph
    # Where scikit-learn's float64 weights underflow, two that are nearest to each other
    # still have each other: not enough for labels to flow.
    cut_off_N = lost_N | (degree < np.log(np.finfo(np.float64).tiny))
    refused = 2 * cut_off_N.sum() > N
    rows = np.flatnonzero(cut_off_N if refused else lost_N)
    _, index_M2 = neighbors.nearest(
        features_ND[rows], features_ND, 2, metric="euclidean"
    )
    square_M2 = neighbors.exact_squares(
        features_ND[rows], features_ND, np.asarray(index_M2)
    )
    far = (
        f"gamma={gamma} is too large: all similarities of {len(rows):,} of {N:,} rows, "
        f"the first of them row {rows[0]}, to other rows underflow {info.dtype}"
    )
    smaller = f"gamma={0.5 * limit / square_M2[:, 1].max():.2g} or smaller"
    if refused:
        wider = "" if info.dtype == np.float64 else " or graph='dense' (float64)"
        raise UserError(f"{far}. Use {smaller}{wider}, or scale the features.")
    logger.warning(
        "%s; no label flows from or to them. If their features are right, use %s.",
        *(far, smaller),
    )
    return graph.replace(log_degree_N=jnp.where(lost_N, 0, graph.log_degree_N))


@jax.jit
def product(graph: affinity.Graph, dense_NK: jax.Array) -> jax.Array:
    """S dense, [N, K]."""
    return graph.product(dense_NK)
