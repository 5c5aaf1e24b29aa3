"""SupCon: each view finds all views of its class among those of a batch.

Khosla et al., "Supervised Contrastive Learning", arXiv:2004.11362; equation numbers are
the paper's.

Departures: from the paper, as in the authors' code (HobbitLong/SupContrast, losses.py
and networks/resnet_big.py at 66a8fe5), the loss is a mean over all views, where eq. 2
is a sum. From the code: the temperature is the paper's, and the loss is not multiplied
by its ratio to 0.07; each view goes through the network with BatchNorm of its own,
where theirs sees both together; the projector has BYOL's BatchNorm, where theirs has
none; and the head, which they train afterwards, learns beside it without sending a
gradient back. Linear layers begin as Flax's do.
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
    gathered,
    gradient_step,
    init_state,
)
from ssl_jax.core.ranges import Count, Positive
from ssl_jax.models import Classifier


@dataclass(frozen=True, kw_only=True)
class SupCon(Algorithm):
    """One network sees both views; its state has no `extra`."""

    draws_from: ClassVar[str] = "labeled"
    views_kind: ClassVar[str] = "two_crops"
    least_batch: ClassVar[int] = 2  # one image alone has no other to be told from
    gathers: ClassVar[bool] = True
    small: ClassVar[dict] = {"hidden": 16, "projection": 16}
    model: Classifier
    tx: optax.GradientTransformation
    views: TwoCrops
    hidden: Count = 2048  # of the projector: the width of their ResNet-50's features
    projection: Count = 128  # D_P
    temperature: Positive = 0.1  # tau: section 4.4; the code's is 0.07

    predict = joint_embedding.predict
    features = joint_embedding.features

    @property
    def network(self) -> Network:
        return Network(
            encoder=self.model.encoder,
            projector=MLP(self.hidden, self.projection),
            num_classes=self.model.num_classes,
        )

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        x_BHWC = self.views.plain(batch["image"])
        return init_state(self.network, self.tx, key, x_BHWC, initial)

    def objective(self, params, model_state, views, labels_B, key, mask_B=None):
        """(loss_B of eq. 2, the mean of both views of an image, outputs of both views,
        model_state)."""
        outputs, model_state = joint_embedding.outputs_of(
            self.network, params, model_state, views, key
        )
        shares = joint_embedding.log_shares(
            *(output.projection_BP for output in outputs), self.temperature, mask_B
        )
        alike_BB = labels_B[:, None] == gathered(labels_B)[None]
        if mask_B is not None:
            alike_BB = alike_BB & mask_B[None]
        others_BB = alike_BB & ~jnp.eye(len(labels_B), dtype=bool)
        positive_B2B = jnp.concatenate([alike_BB, others_BB], axis=1)  # P(i)
        count_B = jnp.maximum(positive_B2B.sum(-1), 1)
        first_B, second_B = (
            -(log_B2B * positive_B2B).sum(-1) / count_B for log_B2B in shares
        )
        return (first_B + second_B) / 2, outputs, model_state

    def loss(self, params, model_state, views, labels_B, key):
        """The objective, the head's loss, and what shows a collapse."""
        loss_B, outputs, model_state = self.objective(
            params, model_state, views, labels_B, key
        )
        head_loss, metrics = joint_embedding.judged(loss_B, outputs, labels_B)
        return loss_B.mean() + head_loss, (model_state, metrics)

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
        """The objective on held-out images, each among those of its batch, on their
        own batch's statistics; and the effective rank of their features."""
        views = joint_embedding.two_views(self.views, batch, key)
        loss_B, _, _ = self.objective(
            state.params,
            state.model_state,
            views,
            batch["label"],
            key,
            batch["mask"],
        )
        return joint_embedding.held_out(
            loss_B, self.features(state, batch), batch["mask"]
        )
