"""VAT: a prediction should stay where a small change would move it most.

Miyato et al., "Virtual Adversarial Training: A Regularization Method for Supervised and
Semi-Supervised Learning", arXiv:1704.03976; equation numbers are the paper's.

Departures: from the paper's code (takerum/vat_tf, vat.py at c5125d2), google's
(google-research/fixmatch, vat.py and third_party/vat_utils.py at d4985a1) and USB
(microsoft/Semi-supervised-learning, semilearn/algorithms/vat/vat.py at 1ef4cbe), xi is
0.1 and not 1e-6: a change of that length moves no pixel of 1 in float32. From the
paper, only unlabeled images are changed, the weight rises, and the entropy counts for
less than the change, as in the last two. The weights are google's; USB's code, which
says none, has 1 for 0.3.
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
from ssl_jax.core.losses import (
    cross_entropy_per_example,
    soft_cross_entropy_per_example,
)
from ssl_jax.core.ranges import Count, Decay, Positive, Share, Weight


@dataclass(frozen=True, kw_only=True)
class VAT(Algorithm):
    draws_from: ClassVar[str] = "labeled"
    needs_unlabeled: ClassVar[bool] = True
    views_kind: ClassVar[str] = "weak_strong"
    model: nn.Module
    tx: optax.GradientTransformation
    views: WeakStrong
    total_steps: int
    epsilon: Positive = 6.0  # length of the change, over all normalised pixels
    xi: Positive = 0.1  # length of a change at which the slope is measured
    power_iterations: Count = 1  # K: times that it turns to where the slope points
    unlabeled_weight: Weight = 0.3  # alpha, at its highest: google's
    entropy_weight: Weight = 0.06  # of the predictions' own entropy
    rampup: Share = 0.4  # part of the steps over which alpha rises from 0
    ema_decay: Decay = 0.999  # of the parameters; evaluation only
    ema_warmup: bool = True  # it rises to that, so that the teacher forgets its start

    init = ema_teacher.init
    predict = ema_teacher.predict
    features = ema_teacher.features

    def unlabeled_logits(self, params, state: TrainState, u_UHWC, key) -> jax.Array:
        """In training mode, on the statistics of their own batch, which move none. The
        same units drop each time, so that two passes differ by their images alone."""
        u_UK, _ = core.forward(
            self.model,
            params,
            state.model_state,
            u_UHWC,
            train=True,
            rngs=core.model_rngs(key, 1),
        )
        return u_UK.astype(jnp.float32)

    def perturbation(self, state: TrainState, u_UHWC, clean_UK, key) -> jax.Array:
        """r_vadv of eq. 6, [U, H, W, C] of length epsilon, by the power method: from a
        direction at random to that of the divergence's slope (algorithm 1)."""

        def distance(change_UHWC):
            moved_UHWC = u_UHWC + change_UHWC
            moved_UK = self.unlabeled_logits(state.params, state, moved_UHWC, key)
            return divergence_per_example(clean_UK, moved_UK).sum()

        # Past the keys that the views are drawn by.
        d_UHWC = jax.random.normal(jax.random.fold_in(key, 2), u_UHWC.shape)
        for _ in range(self.power_iterations):
            d_UHWC = jax.grad(distance)(self.xi * unit_length(d_UHWC))
        return self.epsilon * unit_length(d_UHWC)

    def loss(self, params, state: TrainState, views, batch: Batch, key):
        x_BHWC, u_UHWC = views
        x_BK, model_state = core.forward(
            self.model,
            params,
            state.model_state,
            x_BHWC,
            train=True,
            rngs=core.model_rngs(key),
        )
        loss_B = cross_entropy_per_example(x_BK, batch["label"])
        u_UK = self.unlabeled_logits(params, state, u_UHWC, key)
        clean_UK = jax.lax.stop_gradient(u_UK)
        change_UHWC = self.perturbation(state, u_UHWC, clean_UK, key)
        moved_UK = self.unlabeled_logits(params, state, u_UHWC + change_UHWC, key)
        divergence = divergence_per_example(clean_UK, moved_UK).mean()  # eq. 7, over U
        entropy = soft_cross_entropy_per_example(u_UK, jax.nn.softmax(u_UK)).mean()
        metrics = {
            "labeled_loss": core.mean(loss_B),
            "unlabeled_loss": core.mean(divergence),
            "entropy": core.mean(entropy),
            "accuracy": core.mean(x_BK.argmax(-1) == batch["label"]),
        }
        risen = core.ramp(state.step, self.rampup * self.total_steps)
        loss = loss_B.mean() + self.unlabeled_weight * risen * divergence  # eq. 8
        return loss + self.entropy_weight * entropy, (model_state, metrics)

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


def divergence_per_example(clean_UK: jax.Array, moved_UK: jax.Array) -> jax.Array:
    """D = sum_k p_k (log p_k - log q_k) of p = softmax(clean), q = softmax(moved)."""
    clean_UK, moved_UK = jax.nn.log_softmax(clean_UK), jax.nn.log_softmax(moved_UK)
    return (jnp.exp(clean_UK) * (clean_UK - moved_UK)).sum(-1)


def unit_length(d_UHWC: jax.Array) -> jax.Array:
    """d / |d| of each image; 0 stays 0. By its largest pixel first, as in both codes:
    the squares of a small slope are none in float32."""
    largest_U111 = jnp.abs(d_UHWC).max((1, 2, 3), keepdims=True)
    d_UHWC = d_UHWC / (largest_U111 + 1e-30)
    square_U111 = (d_UHWC**2).sum((1, 2, 3), keepdims=True)
    return d_UHWC / jnp.sqrt(jnp.maximum(square_U111, 1e-12))
