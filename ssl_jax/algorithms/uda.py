"""UDA: the weak view's sharpened prediction is the strong view's soft target.

Xie et al., "Unsupervised Data Augmentation for Consistency Training",
arXiv:1904.12848: confidence-based masking and sharpening.

Departures: from the paper, there is no training signal annealing, as in FixMatch's
comparison (google-research/fixmatch, uda.py at d4985a1) and in USB's
(microsoft/Semi-supervised-learning, semilearn/algorithms/uda/uda.py at 1ef4cbe). USB
does not sharpen: its hook is handed T and leaves it out. Google's flags are a threshold
of 0.95 and a temperature of 1; its Kullback-Leibler divergence has the gradient of the
cross-entropy here.
"""

from dataclasses import dataclass

import jax.numpy as jnp

from ssl_jax.algorithms.fixmatch import FixMatch, Seen, Targets
from ssl_jax.core import PyTree
from ssl_jax.core.losses import sharpen
from ssl_jax.core.ranges import Positive, Share


@dataclass(frozen=True, kw_only=True)
class UDA(FixMatch):
    threshold: Share = 0.8  # beta: images less sure than this are masked
    temperature: Positive = 0.4  # tau: of the sharpened target

    def targets(self, thresholds: PyTree, seen: Seen) -> tuple[Targets, PyTree]:
        weight_U = (seen.weak_UK.max(-1) >= self.threshold).astype(jnp.float32)
        threshold_K = jnp.full(seen.weak_UK.shape[-1], self.threshold)
        target_UK = sharpen(seen.weak_UK, self.temperature)
        return Targets(target_UK, weight_U, seen.weak_UK, threshold_K), thresholds
