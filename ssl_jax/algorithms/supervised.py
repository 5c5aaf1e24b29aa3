"""Cross-entropy on the labeled images alone: the floor that the others stand on.

Departures: none.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import optax
from flax import linen as nn

from ssl_jax.algorithms.shared import ema_teacher
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core import (
    Algorithm,
    Batch,
    Metrics,
    TrainState,
    forward,
    gradient_step,
    mean,
    model_rngs,
)
from ssl_jax.core.losses import (
    cross_entropy_per_example,
    soft_cross_entropy_per_example,
)
from ssl_jax.core.ranges import Decay, Rate


@dataclass(frozen=True, kw_only=True)
class Supervised(Algorithm):
    """One augmented view of each image; judged by its EMA, as the other methods are."""

    draws_from: ClassVar[str] = "labeled"
    views_kind: ClassVar[str] = "weak_strong"
    model: nn.Module
    tx: optax.GradientTransformation
    views: WeakStrong
    frozen: bool = False  # only the head is trained: the encoder's moments rest as well
    strong: bool = False  # the strong view instead of the weak one: a higher floor
    # the part of a label that is spread over all classes (arXiv:1512.00567, section 7)
    label_smoothing: Rate = 0.0
    ema_decay: Decay = 0.999  # of the parameters
    ema_warmup: bool = True  # it rises to that, so that the teacher forgets its start

    init = ema_teacher.init
    predict = ema_teacher.predict
    features = ema_teacher.features

    def loss(self, params, model_state, x_BHWC, labels_B, key):
        logits_BK, model_state = forward(
            self.model,
            params,
            model_state,
            x_BHWC,
            train=not self.frozen,
            rngs=model_rngs(key),
        )
        loss_B = cross_entropy_per_example(logits_BK, labels_B)
        if self.label_smoothing:
            uniform_BK = jnp.full(logits_BK.shape, 1 / logits_BK.shape[-1])
            loss_B *= 1 - self.label_smoothing
            loss_B += self.label_smoothing * soft_cross_entropy_per_example(
                logits_BK, uniform_BK
            )
        correct_B = logits_BK.argmax(-1) == labels_B
        return loss_B.mean(), (model_state, {"accuracy": mean(correct_B)})

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        view = self.views.strong if self.strong else self.views.weak
        x_BHWC = view(key, batch["image"])
        fixed = {"encoder": state.params["encoder"]} if self.frozen else {}

        def loss(params):
            params = params | fixed
            return self.loss(params, state.model_state, x_BHWC, batch["label"], key)

        state, metrics = gradient_step(loss, self.tx, state)
        # Weight decay moves even what has no gradient.
        state = state.replace(params=state.params | fixed)
        return ema_teacher.update(self, state), metrics
