"""FlexMatch: FixMatch whose threshold is lower for classes that are learned less well.

Zhang et al., "FlexMatch: Boosting Semi-Supervised Learning with Curriculum Pseudo
Labeling", arXiv:2110.08263; equation numbers are the paper's.

Departures: from the paper, a threshold is passed by what equals it, as in the authors'
code (TorchSSL/TorchSSL, models/flexmatch/ at f26e1d4) and USB
(microsoft/Semi-supervised-learning, semilearn/algorithms/flexmatch/ at 1ef4cbe). USB
counts after a step's mask, those before it, which is the same.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ssl_jax.algorithms.fixmatch import FixMatch, Seen, Targets, hard


@dataclass(frozen=True, kw_only=True)
class FlexMatch(FixMatch):
    num_classes: int
    num_unlabeled: int
    # Thresholds start from 0 and stay low while most images were never confident.
    threshold_warmup: bool = True

    def init_thresholds(self) -> dict[str, jax.Array]:
        """The class that each unlabeled image was last sure of; -1: it never was."""
        return {"class_N": jnp.full(self.num_unlabeled, -1, jnp.int32)}

    def targets(self, thresholds, seen: Seen) -> tuple[Targets, dict[str, jax.Array]]:
        class_N = thresholds["class_N"]
        # eq. 5: how much each class was learned. By comparison: a scatter of N is slow.
        sigma_K = (class_N[:, None] == jnp.arange(self.num_classes)[None]).sum(0)
        most = sigma_K.max()
        if self.threshold_warmup:
            most = jnp.maximum(most, self.num_unlabeled - sigma_K.sum())  # eq. 11
        beta_K = sigma_K / jnp.maximum(most, 1)  # eq. 6
        threshold_K = beta_K / (2 - beta_K) * self.threshold  # eq. 12: M convex

        label_U, confidence_U = seen.weak_UK.argmax(-1), seen.weak_UK.max(-1)
        weight_U = confidence_U >= threshold_K[label_U]  # eq. 8 has >; its code >=
        # Learned is what passed the fixed threshold, and is never forgotten again. The
        # change is added, not set: adding up is all that several devices exchange.
        was_U = class_N[seen.index_U]
        change_U = jnp.where(confidence_U >= self.threshold, label_U - was_U, 0)
        class_N = class_N.at[seen.index_U].add(change_U.astype(jnp.int32))
        return hard(seen.weak_UK, weight_U, threshold_K), {"class_N": class_N}
