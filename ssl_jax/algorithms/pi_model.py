"""Pi-Model: two augmented views of an image should get the same prediction.

Laine and Aila, "Temporal Ensembling for Semi-Supervised Learning", arXiv:1610.02242,
section 2.1: the noise is in the views, and in a model's dropout if it has any.

Departures: from the paper, as in google-research/fixmatch (pi_model.py at d4985a1) and
USB (microsoft/Semi-supervised-learning, semilearn/algorithms/pimodel/pimodel.py at
1ef4cbe), one of the two predictions is the target and gets no gradient; the weight is
not scaled by the share of labeled images (the paper's M / N); only unlabeled batches
are compared; and both views are weak (USB calls one of them x_ulb_s:
semilearn/datasets/cv_datasets/datasetbase.py). From both codes: the weight rises as the
paper's exp(-5 (1 - t)^2), where theirs rises linearly from 0.
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
from ssl_jax.core.ranges import Decay, Share, Weight


@dataclass(frozen=True, kw_only=True)
class PiModel(Algorithm):
    """Mean Teacher is this with another `target`."""

    draws_from: ClassVar[str] = "labeled"
    needs_unlabeled: ClassVar[bool] = True
    views_kind: ClassVar[str] = "weak_strong"
    model: nn.Module
    tx: optax.GradientTransformation
    views: WeakStrong
    total_steps: int
    consistency_weight: Weight = 10.0  # w at its highest: both codes', on any data set
    rampup: Share = 0.4  # part of the steps over which w rises, as in both codes
    ema_decay: Decay = 0.999  # of the parameters
    ema_warmup: bool = True  # it rises to that, so that the teacher forgets its start

    init = ema_teacher.init
    predict = ema_teacher.predict
    features = ema_teacher.features

    def target(self, state: TrainState, images_UHWC: jax.Array, key) -> jax.Array:
        """logits_UK that the other view should have: the network's own."""
        variables, rngs = (state.params, state.model_state), core.model_rngs(key, 1)
        logits_UK, _ = core.forward(
            self.model, *variables, images_UHWC, train=True, rngs=rngs
        )
        return logits_UK

    def logits(self, params, state: TrainState, x_BHWC, u_UHWC, key):
        """Training-mode logits of both views, each with BatchNorm of its own, and the
        model_state, which the labeled images alone have moved: as in both codes."""
        variables = (params, state.model_state)
        x_BK, model_state = core.forward(
            self.model, *variables, x_BHWC, train=True, rngs=core.model_rngs(key)
        )
        u_UK, _ = core.forward(
            self.model, *variables, u_UHWC, train=True, rngs=core.model_rngs(key, 2)
        )
        return x_BK, u_UK, model_state

    def loss(self, params, state: TrainState, views, batch: Batch, target_UK, key):
        x_BK, u_UK, model_state = self.logits(params, state, *views, key)
        loss_B = cross_entropy_per_example(x_BK, batch["label"])
        difference_UK = jax.nn.softmax(u_UK.astype(jnp.float32)) - target_UK
        consistency = (difference_UK**2).mean()  # over U and K: the paper's 1 / (C B)
        # Section 2.1: exp(-5 (1 - t)^2), from 0.007 to 1.
        risen = core.ramp(state.step, self.rampup * self.total_steps)
        weight = self.consistency_weight * jnp.exp(-5 * (1 - risen) ** 2)
        metrics = {
            "labeled_loss": core.mean(loss_B),
            "unlabeled_loss": core.mean(consistency),
            "accuracy": core.mean(x_BK.argmax(-1) == batch["label"]),
        }
        return loss_B.mean() + weight * consistency, (model_state, metrics)

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        key_x, key_u, key_target = jax.random.split(key, 3)
        views = (
            self.views.weak(key_x, batch["image"]),
            self.views.weak(key_u, batch["unlabeled_image"]),
        )
        other_UHWC = self.views.weak(key_target, batch["unlabeled_image"])
        logits_UK = self.target(state, other_UHWC, key).astype(jnp.float32)
        target_UK = jax.lax.stop_gradient(jax.nn.softmax(logits_UK))
        state, metrics = core.gradient_step(
            lambda params: self.loss(params, state, views, batch, target_UK, key),
            self.tx,
            state,
        )
        return ema_teacher.update(self, state), metrics
