"""FreeMatch: FixMatch whose thresholds follow the model's own confidence.

Wang et al., "FreeMatch: Self-adaptive Thresholding for Semi-supervised Learning",
arXiv:2205.07246; equation numbers are the paper's.

Departures: from the paper, as in USB (microsoft/Semi-supervised-learning,
semilearn/algorithms/freematch/ at 1ef4cbe), a class that was never predicted counts
nothing in eq. 11. From USB: on SVHN its threshold is held at 0.95 at most
(`clip_thresh`), in TorchSSL (models/freematch/ at f26e1d4) from 0.9 to 0.95; here it is
not.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssl_jax.algorithms.fixmatch import FixMatch, Seen, Targets, hard
from ssl_jax.core import ema
from ssl_jax.core.ranges import Decay, Weight


@dataclass(frozen=True, kw_only=True)
class FreeMatch(FixMatch):
    num_classes: int
    threshold: ClassVar[None] = None  # it has its own
    threshold_decay: Decay = 0.999  # lambda: of the running means
    fairness_weight: Weight = 0.001  # w_f: USB's on any data set, TorchSSL has 0.01

    def init_thresholds(self) -> dict[str, jax.Array]:
        uniform_K = jnp.full(self.num_classes, 1 / self.num_classes)
        return {
            "confidence": jnp.float32(1 / self.num_classes),  # tau_t
            "probs_K": uniform_K,  # p~_t: expected prediction
            "histogram_K": uniform_K,  # h~_t: of predicted classes
        }

    def targets(self, thresholds, seen: Seen) -> tuple[Targets, dict[str, jax.Array]]:
        label_U, confidence_U = seen.weak_UK.argmax(-1), seen.weak_UK.max(-1)
        now = {
            "confidence": confidence_U.mean(),  # eq. 5
            "probs_K": seen.weak_UK.mean(0),  # eq. 6
            "histogram_K": jax.nn.one_hot(label_U, self.num_classes).mean(0),  # eq. 10
        }
        thresholds = ema(thresholds, now, self.threshold_decay)
        probs_K = thresholds["probs_K"]
        threshold_K = probs_K / probs_K.max() * thresholds["confidence"]  # eq. 7
        weight_U = confidence_U >= threshold_K[label_U]
        return hard(seen.weak_UK, weight_U, threshold_K), thresholds

    def regularizer(self, strong_UK, targets: Targets, thresholds):
        """w_f L_f, eq. 11: kept predictions should be as varied as expected ones."""
        probs_UK = jax.nn.softmax(strong_UK.astype(jnp.float32))
        label_UK = jax.nn.one_hot(probs_UK.argmax(-1), self.num_classes)
        kept_U1 = targets.weight_U[:, None]
        probs_K, histogram_K = (probs_UK * kept_U1).sum(0), (label_UK * kept_U1).sum(0)
        ours_K = _ratio(probs_K, histogram_K)
        expected_K = _ratio(thresholds["probs_K"], thresholds["histogram_K"])
        # -H of eq. 11; 1e-12 as in USB's entropy_loss.
        fairness = (expected_K * jnp.log(ours_K + 1e-12)).sum()
        return self.fairness_weight * fairness * (histogram_K.sum() > 0)


def _ratio(probs_K, histogram_K):
    """SumNorm(probs / histogram), where a class that was never predicted counts 0, as
    in USB: its running share gets to 0 in float32 after 80,000 steps."""
    predicted_K = histogram_K > 0
    safe_K = jnp.where(predicted_K, histogram_K, 1)
    ratio_K = jnp.where(predicted_K, probs_K / safe_K, 0)
    return ratio_K / jnp.maximum(ratio_K.sum(), 1e-12)
