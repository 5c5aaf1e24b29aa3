"""FreeMatch: FixMatch whose thresholds follow the model's own confidence.

Wang et al., "FreeMatch: Self-adaptive Thresholding for Semi-supervised Learning",
arXiv:2205.07246; equation numbers are the paper's. `threshold` is not used.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ssl_jax.algorithms.fixmatch import FixMatch, Seen, Targets, hard
from ssl_jax.core import ema


@dataclass(frozen=True, kw_only=True)
class FreeMatch(FixMatch):
    num_classes: int
    threshold_decay: float = 0.999  # lambda: of the running means
    fairness_weight: float = 0.01  # w_f

    def init_threshold(self) -> dict[str, jax.Array]:
        uniform_K = jnp.full(self.num_classes, 1 / self.num_classes)
        return {
            "confidence": jnp.float32(1 / self.num_classes),  # tau_t
            "probs_K": uniform_K,  # p~_t: expected prediction
            "histogram_K": uniform_K,  # h~_t: of predicted classes
        }

    def targets(self, threshold, seen: Seen) -> tuple[Targets, dict[str, jax.Array]]:
        label_U, confidence_U = seen.weak_UK.argmax(-1), seen.weak_UK.max(-1)
        now = {
            "confidence": confidence_U.mean(),  # eq. 5
            "probs_K": seen.weak_UK.mean(0),  # eq. 6
            "histogram_K": jax.nn.one_hot(label_U, self.num_classes).mean(0),  # eq. 9
        }
        threshold = ema(threshold, now, self.threshold_decay)
        probs_K = threshold["probs_K"]
        threshold_K = probs_K / probs_K.max() * threshold["confidence"]  # eq. 7
        weight_U = confidence_U >= threshold_K[label_U]
        return hard(seen.weak_UK, weight_U, threshold_K), threshold

    def unlabeled_loss(self, strong_UK, targets: Targets, threshold):
        """Eq. 8, and eq. 11: kept predictions should be as varied as expected ones."""
        probs_UK = jax.nn.softmax(strong_UK.astype(jnp.float32))
        label_UK = jax.nn.one_hot(probs_UK.argmax(-1), self.num_classes)
        kept_U1 = targets.weight_U[:, None]
        probs_K, histogram_K = (probs_UK * kept_U1).sum(0), (label_UK * kept_U1).sum(0)
        # A class that nothing was kept of has no say.
        seen_K = histogram_K > 0
        ratio_K = jnp.where(seen_K, probs_K / jnp.maximum(histogram_K, 1), 0)
        ours_K = ratio_K / jnp.maximum(ratio_K.sum(), 1e-12)
        expected_K = threshold["probs_K"] / threshold["histogram_K"]
        expected_K = expected_K / expected_K.sum()
        # -H of eq. 11; 1e-12 as in USB's entropy_loss.
        fairness = (expected_K * jnp.log(ours_K + 1e-12)).sum() * seen_K.any()
        loss = super().unlabeled_loss(strong_UK, targets, threshold)
        return loss + self.fairness_weight * fairness
