"""Cross-entropy on the labeled images alone: the floor that the others stand on."""

from dataclasses import dataclass

import jax
import optax
from flax import linen as nn

from ssl_jax.augment.views import Views
from ssl_jax.core import (
    Batch,
    Metrics,
    TrainState,
    ema,
    forward,
    gradient_step,
    init_state,
    mean,
)
from ssl_jax.losses import cross_entropy_per_example


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """Weakly augmented images; judged, as the other methods are, by its EMA."""

    model: nn.Module
    tx: optax.GradientTransformation
    views: Views
    ema_decay: float = 0.999  # over parameters and BatchNorm moments

    def init(self, key, batch: Batch, initial=None) -> TrainState:
        x_BHWC = self.views.plain(batch["image"])
        state = init_state(self.model, self.tx, key, x_BHWC, initial)
        return state.replace(extra={"ema": (state.params, state.model_state)})

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
        x_BHWC = self.views.weak(key, batch["image"])
        state, metrics = gradient_step(
            lambda params: self.loss(params, state.model_state, x_BHWC, batch["label"]),
            self.tx,
            state,
        )
        averaged = (state.params, state.model_state)
        teacher = ema(state.extra["ema"], averaged, self.ema_decay)
        return state.replace(extra={"ema": teacher}), metrics

    def predict(self, state: TrainState, batch: Batch) -> jax.Array:
        x_BHWC = self.views.plain(batch["image"])
        return forward(self.model, *state.extra["ema"], x_BHWC, train=False)[0]

    def features(self, state: TrainState, batch: Batch) -> jax.Array:
        x_BHWC = self.views.plain(batch["image"])
        return forward(
            self.model, *state.extra["ema"], x_BHWC, train=False, method="features"
        )[0]
