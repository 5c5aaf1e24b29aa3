"""What label propagation and label spreading share: checks, graph, solvers, new rows.

The rules are scikit-learn's (`sklearn.semi_supervised`), whose argument names, meanings
and unlabeled mark -1 these are.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.graphs import affinity, given, neighbors, problem
from ssl_jax.graphs.problem import Problem, Similarity

logger = logging.getLogger(__name__)

_DIVERGED = 1e6  # times the first residual


class Solved(NamedTuple):
    """What a solver returns."""

    F_NK: jax.Array
    products: int  # with the graph
    change: float  # sum over entries of the last change, or of the residual
    converged: bool


class Solution(NamedTuple):
    """Label distributions and how they were come by."""

    distributions_NK: np.ndarray  # rows sum to 1, or are 0 where no label reaches
    classes_K: np.ndarray  # sorted, of the labels' type
    products: int
    change: float
    converged: bool
    similarity: Similarity

    @property
    def labels_N(self) -> np.ndarray:
        """The likeliest classes; of equally likely ones the smallest."""
        return self.classes_K[self.distributions_NK.argmax(1)]


def check_solver(solver: str, kernel: str, max_iter: int, tol: float) -> None:
    """Raises UserError where one is out of range, or the solver unfit."""
    if solver not in ("iteration", "cg"):
        raise UserError(f"solver={solver!r}: use 'iteration' or 'cg'.")
    if solver == "cg" and kernel != "rbf":
        raise UserError(
            f"solver='cg' needs a symmetric graph, and of kernel={kernel!r} row i may "
            "hear j where j does not hear i: use solver='iteration', or kernel='rbf'."
        )
    if max_iter != int(max_iter) or max_iter < 1:
        raise UserError(f"max_iter={max_iter}: use a whole number from 1.")
    if not tol >= 0:
        raise UserError(f"tol={tol}: use 0 or more.")


def iterate(
    step: Callable[[jax.Array], jax.Array],
    start_NK: jax.Array,
    *,
    max_iter: int,
    tol: float,
) -> Solved:
    """F = step(F) until the sum of |changes| is below `tol`, or below what F's rounding
    lets one see."""
    F_NK, products, change, converged = start_NK, 0, np.inf, False
    while products < max_iter and not converged:
        before_NK, F_NK = F_NK, step(F_NK)
        products += 1
        change, floor = map(float, _change(before_NK, F_NK))
        converged = change < max(tol, floor)
    return Solved(F_NK, products, change, converged)


def conjugate_gradients(
    operator: Callable[[jax.Array], jax.Array],
    target_NK: jax.Array,
    root_N1: jax.Array | float = 1,
    *,
    max_iter: int,
    tol: float,
) -> Solved:
    """Solves operator(root F) = target for F, the operator symmetric and positive
    definite; every column at once, with coefficients of its own (Hestenes and Stiefel,
    1952).

    The residual is what one more step would change. `tol` is for its sum when each row
    is divided by F's, as in distributions: a row far from all labels has next to
    nothing of F, and is not solved before it has that. Where rounding is in the way of
    it, this ends without having converged; where the residual grows, with change inf.
    """
    x_NK = jnp.zeros_like(target_NK)
    state, products, converged = (x_NK, target_NK, target_NK), 0, False
    change, start = np.inf, float(abs(target_NK).sum())
    rounding = float(jnp.finfo(target_NK.dtype).eps)
    while products < max_iter and not converged:
        state = _conjugate_step(state, operator(state[2]))
        products += 1
        size, of_rows, total = map(float, _residual(*state[:2]))
        diverged = not size <= _DIVERGED * start
        change = np.inf if diverged else of_rows
        converged = change < max(tol, rounding * len(x_NK))
        if diverged or size <= rounding * total:
            break
    return Solved(state[0] / root_N1, products, change, converged)


@jax.jit
def _residual(x_NK, residual_NK):
    """Sums of |residual|, of |residual| over its row's |x|, and of |x|."""
    size_N, row_N = abs(residual_NK).sum(axis=1), abs(x_NK).sum(axis=1)
    tiny = jnp.finfo(x_NK.dtype).tiny
    share_N = jnp.where(size_N > 0, size_N / jnp.maximum(row_N, tiny), 0)
    return size_N.sum(), share_N.sum(), row_N.sum()


@jax.jit
def _conjugate_step(state, image_NK):
    x_NK, residual_NK, direction_NK = state
    square_K = (residual_NK**2).sum(0)
    curvature_K = (direction_NK * image_NK).sum(0)
    length_K = jnp.where(curvature_K > 0, square_K / curvature_K, 0)
    x_NK += length_K[None, :] * direction_NK
    residual_NK -= length_K[None, :] * image_NK
    turn_K = (residual_NK**2).sum(0) / jnp.where(square_K > 0, square_K, 1)
    return x_NK, residual_NK, residual_NK + turn_K[None, :] * direction_NK


@jax.jit
def _change(before_NK, F_NK):
    """(sum of |change|, what of it rounding alone may be)."""
    eps = jnp.finfo(F_NK.dtype).eps
    return abs(F_NK - before_NK).sum(), eps * abs(F_NK).sum()


def solution(problem: Problem, solved: Solved, tol: float) -> Solution:
    """The result of a solver as distributions; how it converged is logged."""
    F_NK, products, change, converged = solved
    if not np.isfinite(change):
        raise UserError(
            f"the solver diverged after {products} products with the graph "
            f"({problem.similarity}): use graph='dense', solver='iteration', or a "
            "smaller gamma."
        )
    # By conjugate gradients entries near 0 may come out below it.
    distributions_NK = np.asarray(_distributions(F_NK))
    report = logger.info if converged else logger.warning
    report(
        "%s after %d products with the graph: the last change sums to %.3g, tol=%g.%s",
        *("converged" if converged else "not converged", products, change, tol),
        "" if converged else " Use more products, or with 'cg' a smaller gamma.",
    )
    if lost := int((distributions_NK.sum(1) == 0).sum()):
        logger.warning(
            "no label reaches %d of %d rows: their distributions are 0, and their "
            "label the first class; use more products, neighbours or labels.",
            *(lost, len(distributions_NK)),
        )
    return Solution(
        distributions_NK,
        problem.classes_K,
        *(products, change, converged),
        problem.similarity,
    )


def normalized(F_NK: jax.Array) -> jax.Array:
    """Rows divided by their sums; rows of 0 stay."""
    sum_N1 = F_NK.sum(axis=1, keepdims=True)
    return F_NK / jnp.where(sum_N1 == 0, 1, sum_N1)


@jax.jit
def _distributions(F_NK):
    return normalized(jnp.maximum(F_NK, 0))


def inductive(
    new_MD: np.ndarray, features_ND: np.ndarray, solution: Solution
) -> np.ndarray:
    """distributions_MK of new rows: the mean over the rows of the fit by the kernel's
    weights, or over the nearest, as scikit-learn's `predict_proba`. Of a graph that was
    given, the new rows are their weights to its points, and `features_ND` is not used.

    Raises:
      UserError: the new rows are not finite, or have other features.
    """
    if solution.similarity.kernel == problem.PRECOMPUTED:
        weights_MN = given.checked(new_MD, len(solution.distributions_NK))
        with problem.setting("dense", np.dtype(np.float64)):
            mean_MK = weights_MN @ solution.distributions_NK
            return np.asarray(_distributions(mean_MK))
    new_MD, features_ND = (
        problem.checked_features(new_MD, least=1),
        problem.checked_features(features_ND),
    )
    if new_MD.shape[1] != features_ND.shape[1]:
        raise UserError(
            f"new rows {new_MD.shape} for a fit on {features_ND.shape}: give both the "
            "same features."
        )
    kernel, gamma, n_neighbors, form = solution.similarity
    if kernel == "rbf":
        z_MD, z_ND = problem.scaled((new_MD, features_ND), features_ND, gamma, form)
        precision = z_ND.dtype
    else:
        precision = np.dtype(np.float32)
    with problem.setting(form, precision):
        values_NK = jnp.asarray(solution.distributions_NK, precision)
        if kernel == "knn":
            mean_MK = of_nearest(new_MD, features_ND, values_NK, n_neighbors)
        else:
            careful = problem.careful(z_MD)
            mean_MK = _average(z_MD, z_ND, values_NK, careful=careful)
        return np.asarray(_distributions(mean_MK))


_average = jax.jit(affinity.average, static_argnames="careful")


def labels_of_new(
    new_MD: np.ndarray, features_ND: np.ndarray, solution: Solution
) -> np.ndarray:
    """The likeliest classes by `inductive`."""
    distributions_MK = inductive(new_MD, features_ND, solution)
    return solution.classes_K[distributions_MK.argmax(1)]


def of_nearest(
    new_MD: jax.Array, features_ND: jax.Array, values_NK: jax.Array, k: int
) -> jax.Array:
    """The mean of the values of the k rows nearest to each new one, [M, K]."""
    _, index_Mk = neighbors.nearest(new_MD, features_ND, k, metric="euclidean")
    return values_NK[index_Mk].mean(axis=1)
