"""SimSiam: BYOL without a moving average; stopping the gradient is what matters.

Chen and He, "Exploring Simple Siamese Representation Learning", arXiv:2011.10566.

Departures: from the authors' code (facebookresearch/simsiam, simsiam/builder.py and
main_simsiam.py at a7bc177), which is ImageNet's, the projector has the two layers that
the paper has on CIFAR-10 (appendix D), and is 2,048 wide as in section 3 where the code
takes the encoder's width; the hidden layers have biases, which the BatchNorm after them
takes away again; the rate falls with each step, not with each epoch, and the
predictor's with it, which the command in their README holds (`--fix-pred-lr`); and an
online probe, which they have not, learns beside it without sending a gradient back.
Linear layers begin as Flax's do.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import optax

from ssl_jax.algorithms.shared import joint_embedding
from ssl_jax.algorithms.shared.joint_embedding import MLP, Network, NormalisedMLP
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
from ssl_jax.core.losses import cosine_similarity_per_example
from ssl_jax.core.ranges import Count
from ssl_jax.models import Classifier


@dataclass(frozen=True, kw_only=True)
class SimSiam(Algorithm):
    """One network sees both views; its state has no `extra`."""

    draws_from: ClassVar[str] = "unlabeled"
    views_kind: ClassVar[str] = "two_crops"
    least_batch: ClassVar[int] = 2  # BatchNorm in the heads makes one image alone 0
    small: ClassVar[dict] = {"hidden": 16, "projection": 16, "bottleneck": 16}
    model: Classifier
    tx: optax.GradientTransformation
    views: TwoCrops
    hidden: Count = 2048  # of the projector
    projection: Count = 2048  # d
    bottleneck: Count = 512  # hidden width of the predictor

    predict = joint_embedding.predict
    features = joint_embedding.features

    @property
    def network(self) -> Network:
        return Network(
            encoder=self.model.encoder,
            # BatchNorm on the output as well, neither scaled nor shifted: section 3 and
            # the code; two layers on CIFAR-10, appendix D.
            projector=NormalisedMLP(self.hidden, self.projection),
            predictor=MLP(self.bottleneck, self.projection),
            num_classes=self.model.num_classes,
        )

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        x_BHWC = self.views.plain(batch["image"])
        return init_state(self.network, self.tx, key, x_BHWC, initial)

    def objective(self, params, model_state, views, key):
        """(loss_B of eq. 4, outputs of both views, model_state)."""
        outputs, model_state = joint_embedding.outputs_of(
            self.network, params, model_state, views, key
        )
        z_first, z_second = (jax.lax.stop_gradient(o.projection_BP) for o in outputs)
        p_first, p_second = (o.prediction_BP for o in outputs)
        loss_B = -0.5 * (
            cosine_similarity_per_example(p_first, z_second)
            + cosine_similarity_per_example(p_second, z_first)
        )
        return loss_B, outputs, model_state

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
        """The objective on held-out images, on their own batch's statistics; and the
        effective rank of their features."""
        views = joint_embedding.two_views(self.views, batch, key)
        loss_B, _, _ = self.objective(state.params, state.model_state, views, key)
        features_BD = self.features(state, batch)
        return joint_embedding.held_out(loss_B, features_BD, batch["mask"])
