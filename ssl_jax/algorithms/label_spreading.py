"""Label spreading: labels flow along a graph, and granted ones may be overruled.

Zhou, Bousquet, Lal, Weston and Scholkopf, "Learning with Local and Global Consistency"
(NIPS 2003): F <- alpha S F + (1 - alpha) Y with S = D^-1/2 W D^-1/2, W_ii = 0 and Y the
granted labels (section 2), which converges to (1 - alpha) (I - alpha S)^-1 Y (eq. 4).
Start, stopping rule and defaults are scikit-learn's.

Departures: from the paper, as in scikit-learn (semi_supervised/_label_propagation.py in
its 1.9.1), it stops after `max_iter` steps, rows sum to 1 in the end, and a graph of
nearest neighbours has edges of 1 that lead one way. From scikit-learn: rbf similarities
of more than 4,096 rows are float32, where its are float64.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.algorithms.shared.pool_graph import PoolGraph, moved
from ssl_jax.core import Batch, Metrics, TrainState
from ssl_jax.core.ranges import Range
from ssl_jax.errors import UserError
from ssl_jax.graphs import affinity, propagation
from ssl_jax.graphs.problem import Similarity, posed
from ssl_jax.graphs.propagation import Solution


@jax.jit
def spread(
    graph: affinity.Graph, F_NK: jax.Array, labels_NK: jax.Array, alpha: float
) -> jax.Array:
    """alpha S F + (1 - alpha) Y, where `labels_NK` is Y: one-hot, 0 where unlabeled."""
    return alpha * graph.product(F_NK) + (1 - alpha) * labels_NK


def solve(
    features_ND: np.ndarray,
    labels_N: np.ndarray,
    *,
    kernel: str = "rbf",
    gamma: float = 20.0,
    n_neighbors: int = 7,
    alpha: float = 0.2,
    max_iter: int = 30,
    tol: float = 1e-3,
    solver: str = "iteration",
    graph: str = "auto",
) -> Solution:
    """Distributions over the classes in `labels_N`, how sure, and after how much work.

    Args:
      features_ND: real numbers, in any unit; dense.
      labels_N: integers, -1 where a row has no label. With labels of one class only,
        every row that is reached gets it.
      kernel: "rbf", exp(-gamma |x - y|^2), or "knn": 1 to the n_neighbors nearest rows,
        the row itself among them; or "precomputed": the features are the weights [N, N]
        themselves, an array or a SciPy matrix.
      alpha: the share of its neighbours in a row's distribution, 0 < alpha < 1.
      max_iter: products with the graph, at most.
      tol: stop when the sum of |changes| over all entries is below it. In float32, also
        when it is below what rounding makes of them. For "cg", each row's change counts
        relative to its sum, as rows far from labels have next to nothing.
      solver: "iteration", or "cg": conjugate gradients, which near alpha = 1 need far
        fewer products (rbf only, as a knn graph is not symmetric).
      graph: for rbf "dense" (a float64 matrix; "auto" up to 4,096 rows) or "blocks"
        (float32, or float64 where rows lie too far from the others for that; computed
        anew in every product: O(N (D + K)) memory); for knn "exact" or "approximate"
        neighbours ("auto": by the search's cost). Blocks and knn are split over all
        devices, or over those of `jax.set_mesh`. The result's `similarity` has what was
        chosen, as has absl's log at level INFO.

    Raises:
      UserError: an argument is out of range; features or labels do not fit or are not
        finite; no row has a label; all similarities of most rows underflow (of fewer,
        a warning names them, and they keep what label they have).
    """
    check_alpha(alpha)
    propagation.check_solver(solver, kernel, max_iter, tol)
    between = Similarity(kernel, gamma, n_neighbors, graph)
    with posed(features_ND, labels_N, between, loops=False) as problem:
        labels_NK, limits = problem.labels_NK, dict(max_iter=max_iter, tol=tol)
        if solver == "cg":
            none_NK = jnp.zeros_like(labels_NK)
            solved = propagation.conjugate_gradients(
                lambda F_NK: F_NK - spread(problem.graph, F_NK, none_NK, alpha),
                (1 - alpha) * labels_NK,
                **limits,
            )
        else:
            solved = propagation.iterate(
                lambda F_NK: spread(problem.graph, F_NK, labels_NK, alpha),
                labels_NK,
                **limits,
            )
        return propagation.solution(problem, solved, tol)


def label_distributions(
    features_ND: np.ndarray, labels_N: np.ndarray, **options
) -> np.ndarray:
    """distributions_NK of `solve`, whose options these are; columns are the classes
    present, sorted: scikit-learn's `label_distributions_`."""
    return solve(features_ND, labels_N, **options).distributions_NK


def transduce(features_ND: np.ndarray, labels_N: np.ndarray, **options) -> np.ndarray:
    """Labels of all rows by `solve`: scikit-learn's `transduction_`."""
    return solve(features_ND, labels_N, **options).labels_N


def predict(
    new_MD: np.ndarray, features_ND: np.ndarray, labels_N: np.ndarray, **options
) -> np.ndarray:
    """Labels of new rows by `solve` on the others and `propagation.inductive`."""
    solution = solve(features_ND, labels_N, **options)
    return propagation.labels_of_new(new_MD, features_ND, solution)


def check_alpha(alpha: float) -> None:
    """Raises UserError where alpha is out of range."""
    if not 0 < alpha < 1:
        raise UserError(
            f"alpha={alpha}: use 0 < alpha < 1, the share that neighbours have."
        )


@dataclass(frozen=True, kw_only=True)
class LabelSpreading(PoolGraph):
    """One train step is one product with the graph over the whole pool; the loss is the
    mean over images of sum_k |change|. Distributions are float32 and logarithms, as at
    the example's gamma many are below 1e-38. `PoolGraph` has the other fields, and all
    but the step.

    Raises:
      UserError: a field is out of range.
    """

    loops: ClassVar[bool] = False
    # share of the neighbours
    alpha: Annotated[float, Range(0, 1, without="low and high")] = 0.2

    def __post_init__(self):
        check_alpha(self.alpha)
        super().__post_init__()

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        extra = jax.lax.stop_gradient(state.extra)
        heard_NK = self.graph(extra).log_product(extra["log_NK"])
        granted_NK = jnp.log(extra["labels_NK"])
        log_NK = jnp.logaddexp(
            jnp.log(self.alpha) + heard_NK, jnp.log1p(-self.alpha) + granted_NK
        )
        return moved(state, log_NK, self.tol)
