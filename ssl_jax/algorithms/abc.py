"""ABC: FixMatch with a second head, which sees every class as often.

Lee et al., "ABC: Auxiliary Balanced Classifier for Class-imbalanced Semi-supervised
Learning", arXiv:2110.10368; symbols are the paper's. A head on FixMatch's features has
two losses like FixMatch's, but an image of class k counts there with probability
min(N) / N_k alone, for N_k labels of the class: an unlabeled one of its pseudo-label's
class, and of all classes at first. What this head predicts of the weak view is the
strong view's target as it is, no hard label. It is this head that is judged.

Departures: from the authors' code (LeeHyuck/ABC, ABCcode0920/ABCfix.py at f70e926),
there is one strong view, where theirs has two, whose losses add up in the second head;
all views go through the network together, as in USB, where theirs do so one after the
other, each with BatchNorm of its own; masks of unlabeled images go towards the shares
step by step, not epoch by epoch; both heads have the one threshold. USB
(microsoft/Semi-supervised-learning, semilearn/imb_algorithms/abc/abc.py at 1ef4cbe) has
one strong view as well, and hard labels in the second head.
"""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ssl_jax.algorithms.fixmatch import FixMatch
from ssl_jax.algorithms.shared import ema_teacher
from ssl_jax.core import Batch, PyTree, TrainState, forward, mean
from ssl_jax.core.losses import (
    cross_entropy_per_example,
    soft_cross_entropy_per_example,
)
from ssl_jax.core.ranges import Weight
from ssl_jax.models import Classifier

MASKS = np.uint32(2**31 + 2)  # behind what `core.model_rngs` has of a step's key


class Network(Classifier):
    """The classifier, and a second head. The first and the encoder keep their names, so
    the variables fit `Classifier` as well."""

    def setup(self):
        super().setup()
        self.balanced_head = nn.Dense(
            self.num_classes, kernel_init=nn.initializers.glorot_normal()
        )

    def __call__(self, images_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """The logits of both heads, [B, 2 K]."""
        y_BD = self.features(images_BHWC, train=train)
        if train:
            y_BD = self.dropped(y_BD)
        return jnp.concatenate([self.head(y_BD), self.balanced_head(y_BD)], axis=-1)


@dataclass(frozen=True, kw_only=True)
class ABC(FixMatch):
    model: Classifier
    labeled_K: tuple[int, ...]  # N_k
    total_steps: int
    balanced_weight: Weight = 1.0  # of the second head's losses

    @property
    def network(self) -> Network:
        model = self.model
        return Network(model.encoder, model.num_classes, model.dropout)

    @property
    def counting_K(self) -> np.ndarray:
        """The part of each class's images that counts for the second head:
        min(N) / N_k; all of a class without labels, which is not the rarest either."""
        count_K = np.array(self.labeled_K)
        rarest = count_K[count_K > 0].min()
        return np.float32(rarest / np.maximum(count_K, rarest))

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        with_both_heads = dataclasses.replace(self, model=self.network)
        return FixMatch.init(with_both_heads, key, batch, initial)

    def predict(self, state: TrainState, batch: Batch) -> jax.Array:
        """The teacher's logits_BK, by its second head."""
        x_BHWC = self.views.plain(batch["image"])
        teacher = ema_teacher.variables(state)
        both_B2K, _ = forward(self.network, *teacher, x_BHWC, train=False)
        return _halves(both_B2K)[1]

    def balanced(self, state: TrainState, batch: Batch, x_BK, weak_UK, strong_UK, key):
        """The second head's loss of these logits, and its metrics."""
        key_x, key_u = jax.random.split(key)
        share_K = jnp.array(self.counting_K)
        counts_B = jax.random.bernoulli(key_x, share_K[batch["label"]])
        loss_B = cross_entropy_per_example(x_BK, batch["label"]) * counts_B

        probs_UK = jax.nn.softmax(jax.lax.stop_gradient(weak_UK).astype(jnp.float32))
        share_K = 1 - state.step / self.total_steps * (1 - share_K)
        counts_U = jax.random.bernoulli(key_u, share_K[probs_UK.argmax(-1)])
        kept_U = counts_U & (probs_UK.max(-1) >= self.threshold)
        loss_U = soft_cross_entropy_per_example(strong_UK, probs_UK) * kept_U
        metrics = {
            "balanced_labeled_loss": mean(loss_B),
            "balanced_unlabeled_loss": mean(loss_U),
            "balanced_share_kept": mean(kept_U),
        }
        return loss_B.mean() + self.unlabeled_weight * loss_U.mean(), metrics

    def loss(self, params, state: TrainState, views, batch: Batch, key):
        both, model_state = self.logits(params, state.model_state, views, key)
        logits, balanced = zip(*map(_halves, both), strict=True)
        loss, metrics, _, thresholds = self.compared(state, batch, *logits)
        key_masks = jax.random.fold_in(key, MASKS)
        balanced_loss, of_balanced = self.balanced(state, batch, *balanced, key_masks)
        loss += self.balanced_weight * balanced_loss
        return loss, (model_state, {**metrics, **of_balanced}, thresholds)


def _halves(both_B2K):
    """Of the classifier, and of the second head."""
    return jnp.split(both_B2K, 2, axis=-1)
