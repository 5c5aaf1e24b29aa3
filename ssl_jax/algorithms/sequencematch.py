"""SequenceMatch: FlexMatch with a medium view between the weak and the strong one.

Nguyen, "SequenceMatch: Revisiting the Design of Weak-Strong Augmentations for
Semi-Supervised Learning", WACV 2024, arXiv:2310.15787. Beside FlexMatch's losses, each
two of three views are to say alike: the medium one what the weak one does, the strong
one what the medium one does, and what the weak one does. What is said is sharpened, and
counts where it is sure, at the one threshold that FlexMatch lowers by class.

Departures: from the author's code (beandkay/SequenceMatch, models/sequencematch/ and
models/uda/uda_utils.py at 4f322bb), the medium view has a part of the strong one's
strength, where theirs has one of RandAugment's operations, and the strong one three;
and the loss of pseudo-labels has FlexMatch's thresholds, as in USB, which that code has
with `use_flex`: its settings (config/sequencematch/) leave that off, at one threshold
for all. USB (microsoft/Semi-supervised-learning, semilearn/algorithms/sequencematch/
sequencematch.py at 1ef4cbe) divides probabilities by T and not logits, which leaves its
targets near even, and has FlexMatch's thresholds for these losses as well.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.algorithms.flexmatch import FlexMatch
from ssl_jax.core import Batch, TrainState, mean
from ssl_jax.core.ranges import Positive, Share, Weight

MEDIUM = np.uint32(2**31 + 2)  # behind what `core.model_rngs` has of a step's key


@dataclass(frozen=True, kw_only=True)
class SequenceMatch(FlexMatch):
    medium: Share = 0.5  # of the strong view's strength: the medium one's
    sequence_weight: Weight = 1.0  # of what three views say alike, beside lambda_u
    temperature: Positive = 0.5  # T: of what a view is to say

    def loss(self, params, state: TrainState, views, batch: Batch, key):
        medium_UHWC = self.views.strong(
            jax.random.fold_in(key, MEDIUM),
            batch["unlabeled_image"],
            state.extra.get("rates"),
            part=self.medium,
        )
        logits, model_state = self.logits(
            params, state.model_state, (*views, medium_UHWC), key
        )
        x_BK, weak_UK, strong_UK, medium_UK = logits
        loss, metrics, _, thresholds = self.compared(
            state, batch, x_BK, weak_UK, strong_UK
        )
        pairs = (medium_UK, weak_UK), (strong_UK, medium_UK), (strong_UK, weak_UK)
        unlike_U = sum(self.unlike(said_UK, as_UK) for said_UK, as_UK in pairs)
        sequence_loss = unlike_U.mean()  # over all U, sure or not
        metrics["sequence_loss"] = mean(sequence_loss)
        loss += self.unlabeled_weight * self.sequence_weight * sequence_loss
        return loss, (model_state, metrics, thresholds)

    def unlike(self, logits_UK, as_UK) -> jax.Array:
        """KL_U from the sharpened prediction of `as_UK`, which get no gradient, to what
        the first logits say; 0 where that prediction is not sure."""
        as_UK = jax.lax.stop_gradient(as_UK).astype(jnp.float32)
        sure_U = jax.nn.softmax(as_UK).max(-1) >= self.threshold
        log_target_UK = jax.nn.log_softmax(as_UK / self.temperature)
        log_UK = jax.nn.log_softmax(logits_UK.astype(jnp.float32))
        return sure_U * (jnp.exp(log_target_UK) * (log_target_UK - log_UK)).sum(-1)
