"""SoftMatch: FixMatch whose doubtful pseudo-labels count for less, instead of nothing.

Chen et al., "SoftMatch: Addressing the Quantity-Quality Trade-off in Semi-supervised
Learning", arXiv:2301.10921; section numbers are the paper's.

Departures: from the paper, as in USB (microsoft/Semi-supervised-learning,
semilearn/algorithms/softmatch/ at 1ef4cbe), the Gaussian is sigma / 2 wide and not
sigma (`num_sigma`). From USB: none but that the variance stays where a step has one
unlabeled image, of which USB's is not a number.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssl_jax.algorithms.fixmatch import FixMatch, Seen, Targets, hard
from ssl_jax.core import ema
from ssl_jax.core.losses import align
from ssl_jax.core.ranges import Decay, Positive


@dataclass(frozen=True, kw_only=True)
class SoftMatch(FixMatch):
    num_classes: int
    threshold: ClassVar[None] = None  # it has weights
    moments_decay: Decay = 0.999  # m: of the running mean, variance and prediction
    num_sigma: Positive = 2.0  # the Gaussian is sigma / num_sigma wide: USB's n_sigma

    def init_thresholds(self) -> dict[str, jax.Array]:
        return {
            "mean": jnp.float32(1 / self.num_classes),  # mu_t: of the confidences
            "variance": jnp.float32(1),  # sigma_t^2
            "probs_K": jnp.full(self.num_classes, 1 / self.num_classes),
        }

    def targets(self, thresholds, seen: Seen) -> tuple[Targets, dict[str, jax.Array]]:
        # Uniform alignment (section 3.2): it decides weights only, never labels.
        batch_K = seen.weak_UK.mean(0)
        probs_K = ema(thresholds["probs_K"], batch_K, self.moments_decay)
        probs_K = jnp.where(seen.step == 0, batch_K, probs_K)
        aligned_UK = align(seen.weak_UK, 1 / self.num_classes, probs_K)

        confidence_U = aligned_UK.max(-1)
        now = {
            "mean": confidence_U.mean(),
            "variance": confidence_U.var(ddof=1),
        }
        before = {name: thresholds[name] for name in now}
        if len(confidence_U) == 1:  # of one image there is no variance: it stays
            now["variance"] = before["variance"]
        thresholds = ema(before, now, self.moments_decay)
        mean, variance = thresholds["mean"], thresholds["variance"]
        below_U = jnp.minimum(confidence_U - mean, 0)
        weight_U = jnp.exp(-(below_U**2) / (2 * variance / self.num_sigma**2))
        threshold_K = jnp.full(self.num_classes, mean)
        targets = hard(seen.weak_UK, weight_U, threshold_K)
        return targets, {**thresholds, "probs_K": probs_K}
