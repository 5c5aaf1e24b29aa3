"""Logit adjustment: FixMatch whose labeled loss takes the classes' frequencies away.

Menon et al., "Long-tail Learning via Logit Adjustment", arXiv:2007.07314: the
cross-entropy is of f_k(x) + tau log pi_k, for pi the classes' shares of the labels. The
f that minimises it answers as if all classes were as frequent: it is judged, and gives
pseudo-labels, as it is.

Departures: the paper has labels alone, and so has its code (google-research,
logit_adjustment/main.py and utils.py at 1d4d2f1); FixMatch's loss of unlabeled images
stays as it is.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.algorithms.fixmatch import FixMatch
from ssl_jax.core.losses import cross_entropy_per_example
from ssl_jax.core.ranges import Weight


@dataclass(frozen=True, kw_only=True)
class LogitAdjustment(FixMatch):
    labeled_K: tuple[int, ...]
    tau: Weight = 1.0  # of the adjustment; 1: what the theory has

    def labeled_loss(self, x_BK, label_B) -> jax.Array:
        prior_K = np.float32(self.labeled_K) / sum(self.labeled_K)
        with np.errstate(divide="ignore"):  # no label is of a class that has none
            adjustment_K = np.log(prior_K**self.tau)
        adjusted_BK = x_BK.astype(jnp.float32) + adjustment_K[None]
        return cross_entropy_per_example(adjusted_BK, label_B)
