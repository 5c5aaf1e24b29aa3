"""Barlow Twins: a feature of one view is like itself in the other, and like no other.

Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
arXiv:2103.03230; equation numbers are the paper's.

Departures: from the authors' code (facebookresearch/barlowtwins, main.py at 8e8d284),
the gradient is the loss's own on any number of devices, where theirs is a mean over
devices of its parts, which are to be added; the hidden layers have biases, which the
BatchNorm after them takes away again; and the online probe learns from the labels that
are granted. Linear layers begin as Flax's do.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from ssl_jax.algorithms.shared import joint_embedding
from ssl_jax.algorithms.shared.joint_embedding import MLP, Network
from ssl_jax.augment.two_crops import TwoCrops
from ssl_jax.core import (
    Algorithm,
    Batch,
    Metrics,
    PyTree,
    TrainState,
    gradient_step,
    init_state,
)
from ssl_jax.core.ranges import Count, Weight
from ssl_jax.models import Classifier


@dataclass(frozen=True, kw_only=True)
class BarlowTwins(Algorithm):
    """One network sees both views; its state has no `extra`."""

    draws_from: ClassVar[str] = "unlabeled"
    views_kind: ClassVar[str] = "two_crops"
    least_batch: ClassVar[int] = 2  # one image alone correlates with nothing
    small: ClassVar[dict] = {"hidden": 16, "projection": 16}
    model: Classifier
    tx: optax.GradientTransformation
    views: TwoCrops
    hidden: Count = 8192  # of the projector, which has three layers
    projection: Count = 8192
    redundancy_weight: Weight = 0.0051  # lambda: the code's; 0.005 in the paper

    predict = joint_embedding.predict
    features = joint_embedding.features

    @property
    def network(self) -> Network:
        return Network(
            encoder=self.model.encoder,
            projector=MLP(self.hidden, self.projection, bias=False, layers=3),
            num_classes=self.model.num_classes,
        )

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        x_BHWC = self.views.plain(batch["image"])
        return init_state(self.network, self.tx, key, x_BHWC, initial)

    def objective(self, params, model_state, views, key, mask_B):
        """(loss of eq. 1 over the images where `mask_B`, outputs of both views,
        model_state)."""
        outputs, model_state = joint_embedding.outputs_of(
            self.network, params, model_state, views, key
        )
        z_BP, z_other_BP = (_standard(o.projection_BP, mask_B) for o in outputs)
        product_PP = jnp.matmul(z_BP.T, z_other_BP, precision=jax.lax.Precision.HIGHEST)
        correlation_PP = product_PP / mask_B.sum()  # eq. 2
        itself_PP = jnp.eye(len(correlation_PP))
        invariance = ((1 - correlation_PP.diagonal()) ** 2).sum()
        redundancy = ((correlation_PP * (1 - itself_PP)) ** 2).sum()
        loss = invariance + self.redundancy_weight * redundancy  # eq. 1
        return loss, outputs, model_state

    def loss(self, params, model_state, views, labels_B, key):
        """The objective, the online probe's loss, and what shows a collapse."""
        all_B = jnp.ones(labels_B.shape, bool)
        loss, outputs, model_state = self.objective(
            params, model_state, views, key, all_B
        )
        probe_loss, metrics = joint_embedding.judged(loss, outputs, labels_B)
        return loss + probe_loss, (model_state, metrics)

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        views = joint_embedding.two_views(self.views, batch, key)
        return gradient_step(
            lambda params: self.loss(
                params, state.model_state, views, batch["label"], key
            ),
            self.tx,
            state,
        )

    def eval_step(self, state: TrainState, batch: Batch, key) -> Metrics:
        """The objective on held-out images, batch by batch, on their own batch's
        statistics; and the effective rank of their features."""
        views = joint_embedding.two_views(self.views, batch, key)
        loss, _, _ = self.objective(
            state.params, state.model_state, views, key, batch["mask"]
        )
        return joint_embedding.held_out(
            loss, self.features(state, batch), batch["mask"]
        )


def _standard(z_BP, mask_B):
    """Each feature with mean 0 and variance 1 over the rows where `mask_B`, as by the
    code's BatchNorm: 1e-5 under the root."""
    z_BP = joint_embedding.centred(z_BP, mask_B)
    variance_1P = (z_BP**2).sum(0, keepdims=True) / mask_B.sum()
    return z_BP * jax.lax.rsqrt(variance_1P + 1e-5)
