"""CReST: rounds of FixMatch, each of which takes more pseudo-labels of rare classes.

Wei et al., "CReST: A Class-Rebalancing Self-Training Framework for Imbalanced
Semi-Supervised Learning", arXiv:2102.09559; symbols are the paper's. A generation is a
phase: one with `labels_from` has as labeled images, beside those that were granted,
what the one before it says of the unlabeled ones, by `rarer_first` more of rare classes
(`train/self_training.py`), and starts from scratch. This file is what a generation
trains by, CReST+ (section 3.3): FixMatch with predictions aligned to p(y)^t, p(y) being
the granted labels' proportions, and t smaller from generation to generation.

Departures: from the authors' code (google-research/crest, fixmatch.py, data/cifar.py
and util/ at e270139), the mean prediction is a running one that has the step's in it,
as in USB (microsoft/Semi-supervised-learning, semilearn/imb_algorithms/crest/ at
1ef4cbe), where theirs is of the 128 steps before; p(y) and the parts that are taken are
by the labels as they are, not by the formula that made the data. Configs have three
generations, where the paper has six.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.algorithms.fixmatch import FixMatch, Seen, Targets, hard
from ssl_jax.core import ema
from ssl_jax.core.losses import align
from ssl_jax.core.ranges import Decay, Share


@dataclass(frozen=True, kw_only=True)
class CReST(FixMatch):
    granted_K: tuple[int, ...]  # labels of each class that no network gave
    alignment: Share = 1.0  # t; 0: to classes that are even
    distribution_decay: Decay = 0.999  # of the running mean of predictions

    def init_thresholds(self) -> dict[str, jax.Array]:
        K = len(self.granted_K)
        return {"mean_K": jnp.full(K, 1 / K)}  # p~(y)

    def targets(self, thresholds, seen: Seen) -> tuple[Targets, dict[str, jax.Array]]:
        now_K = seen.weak_UK.mean(0)
        mean_K = ema(thresholds["mean_K"], now_K, self.distribution_decay)
        mean_K = jnp.where(seen.step == 0, now_K, mean_K)
        wanted_K = np.float32(self.granted_K) ** np.float32(self.alignment)
        probs_UK = align(seen.weak_UK, wanted_K / wanted_K.sum(), mean_K)
        weight_U = probs_UK.max(-1) >= self.threshold
        threshold_K = jnp.full(probs_UK.shape[-1], self.threshold)
        return hard(probs_UK, weight_U, threshold_K), {"mean_K": mean_K}
