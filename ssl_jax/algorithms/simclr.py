"""SimCLR: of all views in a batch, each finds the other one of its image.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations",
arXiv:2002.05709; sections and equation numbers are the paper's.

Departures: from the authors' code (google-research/simclr, objective.py and
tf2/model.py at 383d414), the loss is the mean over all 2B views, as eq. 1 and
algorithm 1 have it, where theirs is twice that; the projector has one hidden layer, as
in section 2.2, where theirs by default has the two of SimCLRv2; each view goes through
the network with BatchNorm of its own, as in solo-learn, where theirs sees both
together; the hidden layer has a bias, which the BatchNorm after it takes away again;
the views are BYOL's, unless `augment` says otherwise; and the online probe learns from
the labels that are granted. Linear layers begin as Flax's do.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from ssl_jax.algorithms.shared import joint_embedding
from ssl_jax.algorithms.shared.joint_embedding import Network, NormalisedMLP
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
from ssl_jax.core.ranges import Count, Positive
from ssl_jax.models import Classifier


@dataclass(frozen=True, kw_only=True)
class SimCLR(Algorithm):
    """One network sees both views; its state has no `extra`."""

    draws_from: ClassVar[str] = "unlabeled"
    views_kind: ClassVar[str] = "two_crops"
    least_batch: ClassVar[int] = 2  # one image alone has no other to be told from
    gathers: ClassVar[bool] = True
    small: ClassVar[dict] = {"hidden": 16, "projection": 16}
    model: Classifier
    tx: optax.GradientTransformation
    views: TwoCrops
    hidden: Count = 2048  # of the projector: the width of their ResNet-50's features
    projection: Count = 128  # section 2.2
    temperature: Positive = 0.5  # tau: on CIFAR-10 (appendix B.9); ImageNet: 0.1

    predict = joint_embedding.predict
    features = joint_embedding.features

    @property
    def network(self) -> Network:
        return Network(
            encoder=self.model.encoder,
            # The code has BatchNorm on the output as well, which it scales.
            projector=NormalisedMLP(self.hidden, self.projection, scale=True),
            num_classes=self.model.num_classes,
        )

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        x_BHWC = self.views.plain(batch["image"])
        return init_state(self.network, self.tx, key, x_BHWC, initial)

    def objective(self, params, model_state, views, key, mask_B=None):
        """(loss_B, of which eq. 1's two for an image are the halves, outputs of both
        views, model_state)."""
        outputs, model_state = joint_embedding.outputs_of(
            self.network, params, model_state, views, key
        )
        shares = joint_embedding.log_shares(
            *(output.projection_BP for output in outputs), self.temperature, mask_B
        )
        first_B, second_B = (-_of_the_other(log_B2B) for log_B2B in shares)
        return (first_B + second_B) / 2, outputs, model_state

    def loss(self, params, model_state, views, labels_B, key):
        """The objective, the online probe's loss, and what shows a collapse."""
        loss_B, outputs, model_state = self.objective(params, model_state, views, key)
        probe_loss, metrics = joint_embedding.judged(loss_B, outputs, labels_B)
        return loss_B.mean() + probe_loss, (model_state, metrics)

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
        """The objective on held-out images, each told from those of its batch, on
        their own batch's statistics; and the effective rank of their features."""
        views = joint_embedding.two_views(self.views, batch, key)
        loss_B, _, _ = self.objective(
            state.params, state.model_state, views, key, batch["mask"]
        )
        return joint_embedding.held_out(
            loss_B, self.features(state, batch), batch["mask"]
        )


def _of_the_other(log_B2B):
    """log_B of the image's other view. By comparison: a gather would leave the device
    that the row is on."""
    itself_BB = jnp.eye(len(log_B2B), dtype=bool)
    return jnp.where(itself_BB, log_B2B[:, : len(log_B2B)], 0).sum(-1)
