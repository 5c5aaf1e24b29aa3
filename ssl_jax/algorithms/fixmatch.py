"""FixMatch: a weak view's confident prediction is the strong view's label.

Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and
Confidence", arXiv:2001.07685; equation numbers are the paper's.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from ssl_jax import teacher
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core import (
    Batch,
    Metrics,
    TrainState,
    concat_views,
    forward,
    gradient_step,
    mean,
    split_views,
)
from ssl_jax.losses import cross_entropy_per_example


@dataclass(frozen=True, kw_only=True)
class FixMatch:
    """The "google" and "torchssl" protocols differ in `views`, not here."""

    draws_from: ClassVar[str] = "labeled"
    model: nn.Module
    tx: optax.GradientTransformation
    views: WeakStrong
    threshold: float = 0.95  # tau: predictions at least this sure become labels
    unlabeled_weight: float = 1.0  # lambda_u
    ema_decay: float = 0.999  # over parameters and BatchNorm moments; evaluation only
    # True: one pass over labeled, weak and strong views together, as the paper's code.
    # False: the weak views go first, alone and without gradient, which saves two
    # thirds of their cost; BatchNorm then sees them apart from the others.
    weak_gradient: bool = True

    init = teacher.init
    predict = teacher.predict
    features = teacher.features

    def logits(self, params, model_state, x_BHWC, weak_UHWC, strong_UHWC):
        """Training-mode logits of the three views, and the moved model_state."""
        views = (x_BHWC, weak_UHWC, strong_UHWC)
        if not self.weak_gradient:
            weak_UK, model_state = forward(
                self.model,
                jax.lax.stop_gradient(params),
                model_state,
                weak_UHWC,
                train=True,
            )
            views = (x_BHWC, strong_UHWC)
        joined, model_state = forward(
            self.model, params, model_state, concat_views(*views), train=True
        )
        x_BK, *rest, strong_UK = split_views(joined, *(len(view) for view in views))
        return x_BK, rest[0] if rest else weak_UK, strong_UK, model_state

    def loss(self, params, model_state, views, batch: Batch):
        x_BK, weak_UK, strong_UK, model_state = self.logits(params, model_state, *views)
        loss_B = cross_entropy_per_example(x_BK, batch["label"])  # eq. 3

        probs_UK = jax.nn.softmax(jax.lax.stop_gradient(weak_UK).astype(jnp.float32))
        pseudo_label_U = probs_UK.argmax(-1)
        mask_U = probs_UK.max(-1) >= self.threshold
        loss_U = cross_entropy_per_example(strong_UK, pseudo_label_U)
        unlabeled_loss = (loss_U * mask_U).mean()  # over all U, kept or not: eq. 4

        truth_U = batch["unlabeled_label"]
        metrics = {
            "labeled_loss": mean(loss_B),
            "unlabeled_loss": mean(unlabeled_loss),
            "accuracy": mean(x_BK.argmax(-1) == batch["label"]),
            "share_kept": mean(mask_U),
            "kept_accuracy": mean(pseudo_label_U == truth_U, mask_U & (truth_U >= 0)),
        }
        loss = loss_B.mean() + self.unlabeled_weight * unlabeled_loss
        return loss, (model_state, metrics)

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        key_x, key_weak, key_strong = jax.random.split(key, 3)
        views = (
            self.views.weak(key_x, batch["image"]),
            self.views.weak(key_weak, batch["unlabeled_image"]),
            self.views.strong(key_strong, batch["unlabeled_image"]),
        )
        state, metrics = gradient_step(
            lambda params: self.loss(params, state.model_state, views, batch),
            self.tx,
            state,
        )
        return teacher.update(self, state), metrics
