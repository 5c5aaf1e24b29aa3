"""Label propagation: labels flow along a graph from the granted ones, which stay.

Zhu and Ghahramani, "Learning from Labeled and Unlabeled Data with Label Propagation"
(CMU-CALD-02-107, 2002), section 2.2: Y <- T Y with T = D^-1 W, rows normalised, granted
rows clamped. It converges to the harmonic functions of Zhu, Ghahramani and Lafferty
(ICML 2003): (D_uu - W_uu) F_u = W_ul Y_l (eq. 5). Start, stopping rule and defaults are
scikit-learn's.

Departures: as `label_spreading`'s; and from Zhu, Ghahramani and Lafferty there is no
class mass normalisation, nor is there in scikit-learn.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.algorithms.shared.pool_graph import PoolGraph, moved
from ssl_jax.core import Batch, Metrics, TrainState
from ssl_jax.graphs import affinity, propagation
from ssl_jax.graphs.problem import Similarity, posed, product
from ssl_jax.graphs.propagation import Solution


@jax.jit
def propagate(
    graph: affinity.Graph, F_NK: jax.Array, labels_NK: jax.Array
) -> jax.Array:
    """One step on a graph with loops; `labels_NK` is one-hot, 0 where unlabeled."""
    # S = D^1/2 T D^-1/2, and what divides a whole row is normalised away.
    mass_NK = graph.product(root(graph) * F_NK)
    labeled_N1 = labels_NK.any(axis=1, keepdims=True)
    return jnp.where(labeled_N1, labels_NK, propagation.normalized(mass_NK))


@jax.jit
def harmonic(graph: affinity.Graph, G_NK: jax.Array, labels_NK: jax.Array) -> jax.Array:
    """(I - S)_uu G_u, and 0 in labeled rows. Equation 5 in G = D^1/2 F is that this be
    S_ul G_l; loops cancel, and without them it is better conditioned."""
    unlabeled_N1 = ~labels_NK.any(axis=1, keepdims=True)
    return unlabeled_N1 * (G_NK - graph.product(unlabeled_N1 * G_NK))


def root(graph: affinity.Graph) -> jax.Array:
    """D^1/2, [N, 1]; 1 of padding, where nothing flows."""
    log_degree_N = graph.log_degree_N
    return jnp.exp(0.5 * jnp.where(jnp.isinf(log_degree_N), 0, log_degree_N))[:, None]


def solve(
    features_ND: np.ndarray,
    labels_N: np.ndarray,
    *,
    kernel: str = "rbf",
    gamma: float = 20.0,
    n_neighbors: int = 7,
    max_iter: int = 1000,
    tol: float = 1e-3,
    solver: str = "iteration",
    graph: str = "auto",
) -> Solution:
    """As `label_spreading.solve`, but granted labels stay, and there is no alpha.

    solver="cg" solves eq. 5, the limit of the iteration.
    """
    propagation.check_solver(solver, kernel, max_iter, tol)
    between = Similarity(kernel, gamma, n_neighbors, graph)
    loops = solver == "iteration"
    with posed(features_ND, labels_N, between, loops=loops) as problem:
        held, labels_NK = problem.graph, problem.labels_NK
        limits = dict(max_iter=max_iter, tol=tol)
        if solver == "cg":
            root_N1, labeled_N1 = root(held), labels_NK.any(axis=1, keepdims=True)
            inflow_NK = product(held, root_N1 * labels_NK)
            solved = propagation.conjugate_gradients(
                lambda G_NK: harmonic(held, G_NK, labels_NK),
                jnp.where(labeled_N1, 0, inflow_NK),
                root_N1,
                **limits,
            )
            solved = solved._replace(F_NK=solved.F_NK + labels_NK)
        else:
            solved = propagation.iterate(
                lambda F_NK: propagate(held, F_NK, labels_NK), labels_NK, **limits
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


@dataclass(frozen=True, kw_only=True)
class LabelPropagation(PoolGraph):
    """One train step is one product with the graph, as in `LabelSpreading`; `PoolGraph`
    has the fields, and all but the step.

    Raises:
      UserError: a field is out of range.
    """

    loops: ClassVar[bool] = True

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        extra = jax.lax.stop_gradient(state.extra)
        graph, labels_NK = self.graph(extra), extra["labels_NK"]
        mass_NK = graph.log_product(jnp.log(root(graph)) + extra["log_NK"])
        sum_N1 = jax.nn.logsumexp(mass_NK, axis=1, keepdims=True)
        log_NK = mass_NK - jnp.where(jnp.isfinite(sum_N1), sum_N1, 0)
        labeled_N1 = labels_NK.any(axis=1, keepdims=True)
        log_NK = jnp.where(labeled_N1, jnp.log(labels_NK), log_NK)
        return moved(state, log_NK, self.tol)
