"""Cross-entropy on the labeled images alone: the floor that the others stand on."""

from dataclasses import dataclass

import optax
from flax import linen as nn

from ssl_jax import teacher
from ssl_jax.augment.views import Views
from ssl_jax.core import (
    Batch,
    Metrics,
    TrainState,
    forward,
    gradient_step,
    mean,
)
from ssl_jax.losses import cross_entropy_per_example


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """One augmented view of each image; judged by its EMA, as the other methods are."""

    model: nn.Module
    tx: optax.GradientTransformation
    views: Views
    strong: bool = False  # the strong view instead of the weak one: a higher floor
    ema_decay: float = 0.999  # over parameters and BatchNorm moments

    init = teacher.init
    predict = teacher.predict
    features = teacher.features

    def loss(self, params, model_state, x_BHWC, labels_B):
        logits_BK, model_state = forward(
            self.model, params, model_state, x_BHWC, train=True
        )
        loss_B = cross_entropy_per_example(logits_BK, labels_B)
        correct_B = logits_BK.argmax(-1) == labels_B
        return loss_B.mean(), (model_state, {"accuracy": mean(correct_B)})

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        view = self.views.strong if self.strong else self.views.weak
        x_BHWC = view(key, batch["image"])
        state, metrics = gradient_step(
            lambda params: self.loss(params, state.model_state, x_BHWC, batch["label"]),
            self.tx,
            state,
        )
        return teacher.update(self, state), metrics
