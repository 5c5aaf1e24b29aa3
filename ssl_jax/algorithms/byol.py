"""BYOL: an online network predicts what its own moving average says of another view.

Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning",
arXiv:2006.07733; sections and equation numbers are the paper's.

Departures: from the authors' code (google-deepmind/deepmind-research, byol/ at
4822a45), the target begins as a copy of the online network, as in solo-learn and
htdt/self-supervised, where theirs is drawn anew (they saw no difference); the probe
learns from the labels that are granted; linear layers begin as Flax's do, 1.14 times as
large as Haiku's; and the views are torchvision's: a crop is drawn up to ten times until
it fits where theirs is cut to the image, brightness is a factor where they add to it,
contrast is about the grey mean where theirs is about each channel's, and blur reflects
the border where theirs pads it with black.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import optax

from ssl_jax.algorithms.shared import joint_embedding
from ssl_jax.algorithms.shared.joint_embedding import MLP, Network, target_of
from ssl_jax.augment.two_crops import TwoCrops
from ssl_jax.core import (
    Algorithm,
    Batch,
    Metrics,
    PyTree,
    TrainState,
    ema,
    gradient_step,
    init_state,
)
from ssl_jax.core.losses import cosine_similarity_per_example
from ssl_jax.core.ranges import Count, Share
from ssl_jax.models import Classifier


@dataclass(frozen=True, kw_only=True)
class BYOL(Algorithm):
    """The target is in extra["target"]: parameters only, because it runs on the
    BatchNorm statistics of its batch, as in the paper's code."""

    draws_from: ClassVar[str] = "unlabeled"
    views_kind: ClassVar[str] = "two_crops"
    least_batch: ClassVar[int] = 2  # BatchNorm in the heads makes one image alone 0
    small: ClassVar[dict] = {"hidden": 16, "projection": 16}
    model: Classifier
    tx: optax.GradientTransformation
    views: TwoCrops
    total_steps: int  # K
    hidden: Count = 4096  # of projector and predictor
    projection: Count = 256  # P
    # of both last layers: not in the paper's code, but in solo-learn's and htdt's
    head_bias: bool = False
    tau_base: Share = 0.996

    predict = joint_embedding.predict
    features = joint_embedding.features

    @property
    def network(self) -> Network:
        return Network(
            encoder=self.model.encoder,
            projector=MLP(self.hidden, self.projection, self.head_bias),
            predictor=MLP(self.hidden, self.projection, self.head_bias),
            num_classes=self.model.num_classes,
        )

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        x_BHWC = self.views.plain(batch["image"])
        state = init_state(self.network, self.tx, key, x_BHWC, initial)
        return state.replace(extra={"target": target_of(state.params)})

    def tau(self, step: jax.Array) -> jax.Array:
        """The target's decay, which rises from tau_base to 1 (section 3.2)."""
        return joint_embedding.to_one(self.tau_base, step, self.total_steps)

    def objective(self, params, model_state, extra, views, key):
        """(loss_B of eq. 2 in both orders, outputs of both views, model_state)."""
        outputs, moved = joint_embedding.outputs_of(
            self.network, params, model_state, views, key
        )
        z_first, z_second = joint_embedding.targets_of(
            self.network, extra["target"], model_state, views, key, after=len(views)
        )
        q_first, q_second = (output.prediction_BP for output in outputs)
        loss_B = (2 - 2 * cosine_similarity_per_example(q_first, z_second)) + (
            2 - 2 * cosine_similarity_per_example(q_second, z_first)
        )
        return loss_B, outputs, moved

    def loss(self, params, model_state, extra, views, labels_B, key):
        """The objective, the online probe's loss, and what shows a collapse."""
        loss_B, outputs, model_state = self.objective(
            params, model_state, extra, views, key
        )
        probe_loss, metrics = joint_embedding.judged(loss_B, outputs, labels_B)
        return loss_B.mean() + probe_loss, (model_state, metrics)

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        views, before = joint_embedding.two_views(self.views, batch, key), state
        state, metrics = gradient_step(
            lambda params: self.loss(
                params, state.model_state, state.extra, views, batch["label"], key
            ),
            self.tx,
            state,
        )
        tau = self.tau(before.step)
        target = ema(before.extra["target"], target_of(state.params), tau)  # eq. 1
        return state.replace(extra={"target": target}), metrics

    def eval_step(self, state: TrainState, batch: Batch, key) -> Metrics:
        """The objective on held-out images, on their own batch's statistics; and the
        effective rank of their features."""
        views = joint_embedding.two_views(self.views, batch, key)
        loss_B, _, _ = self.objective(
            state.params, state.model_state, state.extra, views, key
        )
        features_BD = self.features(state, batch)
        return joint_embedding.held_out(loss_B, features_BD, batch["mask"])
