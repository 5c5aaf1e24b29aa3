"""Pseudo-Label: the network's confident predictions are labels for itself.

Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep
Neural Networks", ICML workshop 2013, as the papers after it compare with it: weak
augmentation, and a threshold (Oliver et al., arXiv:1804.09170, table 8).

This is the form that labels every batch anew. In the form that labels the whole pool
once, a teacher does, and a student trains on what it was sure of: phases with
`labels_from` (train/self_training.py), as configs/pseudo_label_mnist.py has them.

Departures: from the paper, a threshold, and the weight rises from step 0 to 0.4 of the
steps, where eq. 16 has a first stretch without it; both as in google-research/fixmatch
(pseudo_label.py at d4985a1) and USB (microsoft/Semi-supervised-learning,
semilearn/algorithms/pseudolabel/pseudolabel.py at 1ef4cbe). From google's code: its
[U] loss is multiplied by a [U, 1] mask, which averages instead of masking, and its
threshold is `>`, ours and USB's `>=`.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from ssl_jax import core
from ssl_jax.algorithms.shared import ema_teacher
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core import Algorithm, Batch, Metrics, TrainState
from ssl_jax.core.losses import cross_entropy_per_example
from ssl_jax.core.metrics import pseudo_label_quality
from ssl_jax.core.ranges import Decay, Share, Weight


@dataclass(frozen=True, kw_only=True)
class PseudoLabel(Algorithm):
    draws_from: ClassVar[str] = "labeled"
    needs_unlabeled: ClassVar[bool] = True
    views_kind: ClassVar[str] = "weak_strong"
    model: nn.Module
    tx: optax.GradientTransformation
    views: WeakStrong
    total_steps: int
    threshold: Share = 0.95  # predictions at least this sure become labels
    unlabeled_weight: Weight = 1.0  # alpha_f, at its highest
    warmup: Share = 0.4  # the weight rises from 0 over this part of the steps: eq. 16
    ema_decay: Decay = 0.999  # of the parameters; evaluation only
    ema_warmup: bool = True  # it rises to that, so that the teacher forgets its start

    init = ema_teacher.init
    predict = ema_teacher.predict
    features = ema_teacher.features

    def logits(self, params, state: TrainState, x_BHWC, u_UHWC, key):
        """Training-mode logits of both views, each with BatchNorm of its own, and the
        model_state, which the labeled images alone have moved: as in both codes."""
        variables = (params, state.model_state)
        x_BK, model_state = core.forward(
            self.model, *variables, x_BHWC, train=True, rngs=core.model_rngs(key)
        )
        u_UK, _ = core.forward(
            self.model, *variables, u_UHWC, train=True, rngs=core.model_rngs(key, 1)
        )
        return x_BK, u_UK, model_state

    def loss(self, params, state: TrainState, views, batch: Batch, key):
        x_BK, u_UK, model_state = self.logits(params, state, *views, key)
        loss_B = cross_entropy_per_example(x_BK, batch["label"])

        probs_UK = jax.nn.softmax(jax.lax.stop_gradient(u_UK).astype(jnp.float32))
        mask_U = (probs_UK.max(-1) >= self.threshold).astype(jnp.float32)
        loss_U = cross_entropy_per_example(u_UK, probs_UK.argmax(-1))
        # A [U] loss by a [U] mask: google-research/fixmatch has [U, 1], which averages.
        unlabeled_loss = (loss_U * mask_U).mean()
        risen = core.ramp(state.step, self.warmup * self.total_steps)
        weight = self.unlabeled_weight * risen
        metrics = {
            "labeled_loss": core.mean(loss_B),
            "unlabeled_loss": core.mean(unlabeled_loss),
            "accuracy": core.mean(x_BK.argmax(-1) == batch["label"]),
            **pseudo_label_quality(
                probs_UK,
                mask_U,
                batch["unlabeled_label"],
                jnp.full(probs_UK.shape[-1], self.threshold),
            ),
        }
        return loss_B.mean() + weight * unlabeled_loss, (model_state, metrics)

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        key_x, key_u = jax.random.split(key)
        views = (
            self.views.weak(key_x, batch["image"]),
            self.views.weak(key_u, batch["unlabeled_image"]),
        )
        state, metrics = core.gradient_step(
            lambda params: self.loss(params, state, views, batch, key), self.tx, state
        )
        return ema_teacher.update(self, state), metrics
