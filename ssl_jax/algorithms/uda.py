"""UDA: the weak view's sharpened prediction is the strong view's soft target.

Xie et al., "Unsupervised Data Augmentation for Consistency Training",
arXiv:1904.12848: confidence-based masking and sharpening. Its training signal annealing
is left out, as in FixMatch's comparison and in USB's.
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
