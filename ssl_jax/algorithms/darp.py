"""DARP: FixMatch whose pseudo-labels are brought to the labels' proportions.

Kim et al., "Distribution Aligning Refinery of Pseudo-label for Imbalanced
Semi-supervised Learning", arXiv:2007.08844; symbols are the paper's. What was last said
of each of the N unlabeled images is remembered. Every few steps these predictions y_n
become x_n, of which class k has M_k in all, by as little as they must: the sum of
w_n KL(x_n | y_n) is least, 1 / w_n being the entropy of y_n. The multipliers of images,
which is to make their sums 1, and of classes, nu_k, are solved for in turn (algorithm
1). Before that a class keeps the images alone that are surest of it (section 3.3).

Departures: from the authors' code (bbuing9/DARP, common.py and training_functions.py at
64a94b4), a class's equation is solved to the end, by Newton's method on its logarithm,
where theirs stops at a change of nu below 0.1; the first refinement is at the first
step after the warm-up; there is one strong view, where theirs has two; weak views go
through the network with the others, as in USB, where theirs go first and alone
(`weak_gradient=False`); T and the steps between refinements are those of CIFAR-10 and
of USB, where run.sh has 20 and 100 on CIFAR-100 and STL-10. M_k are in the labels'
proportions, as where their code is told that both sets are alike (it can estimate those
of unlabeled images as well), and in USB (microsoft/Semi-supervised-learning,
semilearn/imb_algorithms/darp/ at 1ef4cbe). From USB: confidence is read from refined
predictions too, as in the authors' code.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.algorithms.fixmatch import FixMatch, Seen, Targets, hard
from ssl_jax.core import on_every_device
from ssl_jax.core.ranges import Count, Positive, Share

NEWTON = 20  # steps of Newton's method for a class's multiplier


@dataclass(frozen=True, kw_only=True)
class DARP(FixMatch):
    labeled_K: tuple[int, ...]
    num_unlabeled: int  # N
    total_steps: int
    warmup: Share = 0.4  # of the steps, before predictions are refined
    refine_every: Count = 10  # steps
    rounds: Count = 10  # T: of both kinds of multipliers in turn
    likely: Positive = 2.0  # alpha: images that a class keeps, in units of M_k

    @property
    def wanted_K(self) -> np.ndarray:
        """M_k; of a class without labels next to nothing, as no multiplier makes 0."""
        total = sum(self.labeled_K)
        return self.num_unlabeled * np.maximum(self.labeled_K, 1e-6 * total) / total

    def init_thresholds(self) -> dict[str, jax.Array]:
        """What was last said of each unlabeled image, and the same refined."""
        K = len(self.labeled_K)
        uniform_NK = jnp.full((self.num_unlabeled, K), 1 / K)
        return {"probs_NK": uniform_NK, "refined_NK": uniform_NK}

    def targets(self, thresholds, seen: Seen) -> tuple[Targets, dict[str, jax.Array]]:
        index_U, said_UK = map(on_every_device, (seen.index_U, seen.weak_UK))
        probs_NK = thresholds["probs_NK"].at[index_U].set(said_UK)
        after = seen.step - int(self.warmup * self.total_steps)
        due = (after >= 0) & (after % self.refine_every == 0)
        refined_NK = jax.lax.cond(
            due, self.refined, lambda _: thresholds["refined_NK"], probs_NK
        )
        probs_UK = jnp.where(after >= 0, refined_NK[seen.index_U], seen.weak_UK)
        weight_U = probs_UK.max(-1) >= self.threshold
        threshold_K = jnp.full(probs_UK.shape[-1], self.threshold)
        targets = hard(probs_UK, weight_U, threshold_K)
        return targets, {"probs_NK": probs_NK, "refined_NK": refined_NK}

    def refined(self, probs_NK: jax.Array) -> jax.Array:
        """x_n: the predictions y_n of all images, of which class k has M_k."""
        return proportioned(self.surest(probs_NK), self.wanted_K, self.rounds)

    def surest(self, probs_NK: jax.Array) -> jax.Array:
        """Predictions that say next to nothing of a class but where they are among its
        alpha M_k surest; there in proportion to M_k."""
        kept_K = (self.likely * self.wanted_K).astype(int)
        rank_NK = jnp.argsort(jnp.argsort(-probs_NK, axis=0), axis=0)
        kept_NK = jnp.where(rank_NK < kept_K[None], probs_NK, 0)
        scale_K = (np.float32(self.wanted_K) + 1e-6) / (kept_NK.sum(0) + 1e-6)
        kept_NK = kept_NK * scale_K[None] + 1e-6
        return kept_NK / kept_NK.sum(-1, keepdims=True)


def proportioned(probs_NK: jax.Array, wanted_K: np.ndarray, rounds: int) -> jax.Array:
    """The predictions nearest to `probs_NK` of which class k has wanted_K in all, after
    so many rounds: exact in the rows' sums, and nearly so in the columns'."""
    log_NK = jnp.log(probs_NK) - 1
    entropy_N1 = -(probs_NK * jnp.log(probs_NK + 1e-6)).sum(-1, keepdims=True)  # 1 / w
    log_wanted_K = np.log(np.float32(wanted_K))

    def of_images(nu_K):
        """log x_n, up to what makes its sum 1."""
        return log_NK - entropy_N1 * nu_K[None]

    def once(_, nu_K):
        whole_N1 = jax.nn.logsumexp(of_images(nu_K), axis=-1, keepdims=True)

        def newton(_, nu_K):
            log_x_NK = of_images(nu_K) - whole_N1
            excess_K = jax.nn.logsumexp(log_x_NK, axis=0) - log_wanted_K
            slope_K = -(jax.nn.softmax(log_x_NK, axis=0) * entropy_N1).sum(0)
            return nu_K - excess_K / slope_K

        return jax.lax.fori_loop(0, NEWTON, newton, nu_K)

    nu_K = jax.lax.fori_loop(0, rounds, once, jnp.ones(len(wanted_K)))
    return jax.nn.softmax(of_images(nu_K), axis=-1)
