"""AdaMatch: FixMatch aligned to the labeled predictions, in class shares and threshold.

Berthelot et al., "AdaMatch: A Unified Approach to Semi-Supervised Learning and Domain
Adaptation", arXiv:2106.04732; section numbers are the paper's.

Departures: from the paper, as in USB (microsoft/Semi-supervised-learning,
semilearn/algorithms/adamatch/ at 1ef4cbe), whose numbers it is compared with: labeled
and unlabeled images are of one domain, so random logit interpolation (section 3.1) is
left out; labels are hard; tau is 0.95 (the paper's 0.9); the unlabeled weight does not
rise; labeled images have no strong view; and proportions are running means. From USB:
none.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ssl_jax.algorithms.fixmatch import FixMatch, Seen, Targets, hard
from ssl_jax.core import ema
from ssl_jax.core.losses import align
from ssl_jax.core.ranges import Decay


@dataclass(frozen=True, kw_only=True)
class AdaMatch(FixMatch):
    num_classes: int
    # Of the running means of predictions, as in USB; 0: the means of this batch, as
    # the paper writes the expectations.
    distribution_decay: Decay = 0.999

    def init_thresholds(self) -> dict[str, jax.Array]:
        uniform_K = jnp.full(self.num_classes, 1 / self.num_classes)
        return {"labeled_K": uniform_K, "unlabeled_K": uniform_K}

    def targets(self, thresholds, seen: Seen) -> tuple[Targets, dict[str, jax.Array]]:
        # Distribution alignment (section 3.2).
        now = {
            "labeled_K": seen.labeled_BK.mean(0),
            "unlabeled_K": seen.weak_UK.mean(0),
        }
        means = ema(thresholds, now, self.distribution_decay)
        means["unlabeled_K"] = jnp.where(
            seen.step == 0, now["unlabeled_K"], means["unlabeled_K"]
        )
        probs_UK = align(seen.weak_UK, means["labeled_K"], means["unlabeled_K"])
        # Relative confidence threshold c_tau (section 3.3).
        confidence = self.threshold * seen.labeled_BK.max(-1).mean()
        weight_U = probs_UK.max(-1) >= confidence
        threshold_K = jnp.full(self.num_classes, confidence)
        return hard(probs_UK, weight_U, threshold_K), means
