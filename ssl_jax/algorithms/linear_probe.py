"""A linear probe: logistic regression on the features of an encoder that rests.

The features of the labeled images are computed once and standardised by their own
moments; a step is one of the optimizer on all of them. With an L2 decay of the weights
it goes to where `evaluate.probes.logistic_regression` does by L-BFGS. Alain and Bengio,
"Understanding Intermediate Layers Using Linear Classifier Probes" (arXiv:1610.01644).

Departures: from what BYOL's paper calls linear evaluation (arXiv:2006.07733, appendix
C), no view is augmented, and every step sees every label.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from ssl_jax.algorithms.shared import frozen_encoder
from ssl_jax.augment.plain import Plain
from ssl_jax.core import (
    Algorithm,
    Batch,
    Metrics,
    PyTree,
    TrainState,
    gradient_step,
    mean,
    on_every_device,
)
from ssl_jax.core.losses import cross_entropy_per_example


@dataclass(frozen=True, kw_only=True)
class LinearProbe(Algorithm):
    """A step is of all L labeled images at once; what has no label is not looked at."""

    draws_from: ClassVar[str] = "pool"
    views_kind: ClassVar[str] = "plain"
    embeds: ClassVar[str] = "labeled"
    model: nn.Module
    tx: optax.GradientTransformation
    views: Plain
    num_labeled: int

    begun = frozen_encoder.begun
    features = frozen_encoder.features

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        """Keeps the encoder, the labels and the features of their images.

        Raises:
          UserError: as `init_state`.
        """
        state = self.begun(key, batch, initial)
        features_ND = on_every_device(frozen_encoder.of_pool(self, state, batch))
        label_N, mask_N = (on_every_device(batch[name]) for name in ("label", "mask"))
        granted_N = mask_N & (label_N >= 0)
        (rows_L,) = jnp.nonzero(granted_N, size=self.num_labeled, fill_value=0)
        features_LD = features_ND[rows_L]
        std_D = features_LD.std(axis=0)
        extra = {
            "features_LD": features_LD,
            "label_L": label_N[rows_L],
            "mean_D": features_LD.mean(axis=0),
            "std_D": jnp.where(std_D > 0, std_D, 1),
        }
        head = {"head": state.params["head"]}
        return state.replace(opt_state=self.tx.init(head), extra=extra)

    def logits(self, head: PyTree, extra: PyTree, features_BD: jax.Array) -> jax.Array:
        """logits_BK of features as the encoder gives them."""
        x_BD = (features_BD - extra["mean_D"][None]) / extra["std_D"][None]
        kernel_DK, bias_K = head["kernel"], head["bias"]
        return jnp.matmul(x_BD, kernel_DK, precision="highest") + bias_K[None]

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        extra, label_L = jax.lax.stop_gradient(state.extra), state.extra["label_L"]

        def loss(params):
            logits_LK = self.logits(params["head"], extra, extra["features_LD"])
            loss_L = cross_entropy_per_example(logits_LK, label_L)
            correct_L = logits_LK.argmax(-1) == label_L
            return loss_L.mean(), (state.model_state, {"accuracy": mean(correct_L)})

        # The optimizer knows of the head alone.
        head = state.replace(params={"head": state.params["head"]})
        head, metrics = gradient_step(loss, self.tx, head)
        return head.replace(params=state.params | head.params), metrics

    def predict(self, state: TrainState, batch: Batch) -> jax.Array:
        """The probe's logits_BK."""
        features_BD = self.features(state, batch)
        return self.logits(state.params["head"], state.extra, features_BD)
