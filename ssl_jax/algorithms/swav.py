"""SwAV: each view says to which prototypes the others of its image were assigned.

Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster
Assignments", arXiv:2006.09882; sections and equation numbers are the paper's.

Departures: from the authors' code (facebookresearch/swav, main_swav.py and
src/resnet50.py at 06b1b7c), the two large crops go through the network apart, each with
BatchNorm of its own, where theirs see both together, and the projector has BatchNorm
over crops of one size; while the prototypes are frozen their weight decay is taken
back, but momentum remembers it; there is no queue, which the code offers for small
batches; and the online probe learns from the labels that are granted. Linear layers
begin as Flax's do.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from ssl_jax.algorithms.shared import joint_embedding
from ssl_jax.algorithms.shared.joint_embedding import MLP, Network
from ssl_jax.augment.multi_crop import MultiCrop
from ssl_jax.core import (
    Algorithm,
    Batch,
    Metrics,
    PyTree,
    TrainState,
    gradient_step,
    init_state,
)
from ssl_jax.core.losses import soft_cross_entropy_per_example, unit_length
from ssl_jax.core.ranges import Count, Positive, Whole
from ssl_jax.models import Classifier


class Prototypes(nn.Module):
    """Scores z^T c_k of a projection brought to length 1."""

    count: int

    @nn.compact
    def __call__(self, z_BP: jax.Array, *, train: bool) -> jax.Array:
        return nn.Dense(self.count, use_bias=False)(unit_length(z_BP))


@dataclass(frozen=True, kw_only=True)
class SwAV(Algorithm):
    """The prototypes are the network's predictor; its state has no `extra`."""

    draws_from: ClassVar[str] = "unlabeled"
    views_kind: ClassVar[str] = "multi_crop"
    least_batch: ClassVar[int] = 2  # BatchNorm in the head makes one image alone 0
    small: ClassVar[dict] = {
        "hidden": 16,
        "projection": 16,
        "prototypes": 24,
        "small_crops": 2,
        "freeze_steps": 2,
    }
    model: Classifier
    tx: optax.GradientTransformation
    views: MultiCrop
    hidden: Count = 2048  # of the projector
    projection: Count = 128
    prototypes: Count = 3000  # K
    small_crops: Whole = 6  # V
    temperature: Positive = 0.1  # tau
    epsilon: Positive = 0.05  # of the assignments' entropy (eq. 3)
    sinkhorn_steps: Count = 3
    freeze_steps: Whole = 313  # in which the prototypes stay as they are

    predict = joint_embedding.predict
    features = joint_embedding.features

    @property
    def network(self) -> Network:
        return Network(
            encoder=self.model.encoder,
            projector=MLP(self.hidden, self.projection),
            predictor=Prototypes(self.prototypes),
            num_classes=self.model.num_classes,
        )

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        x_BHWC = self.views.plain(batch["image"])
        return init_state(self.network, self.tx, key, x_BHWC, initial)

    def objective(self, params, model_state, crops, key, mask_B=None):
        """(loss_B of eq. 2 over all crops, outputs of the large ones, model_state)."""
        outputs, small, model_state = joint_embedding.outputs_of_crops(
            self.network, params, model_state, crops, key
        )
        scores = [output.prediction_BP for output in (*outputs, *small)]
        loss_B = 0
        for i, output in enumerate(outputs):
            code_BK = jax.lax.stop_gradient(self.codes(output.prediction_BP, mask_B))
            others = [s for v, s in enumerate(scores) if v != i]
            loss_B += sum(
                soft_cross_entropy_per_example(score_BK / self.temperature, code_BK)
                for score_BK in others
            ) / len(others)
        return loss_B / len(outputs), outputs, model_state

    def codes(self, scores_BK: jax.Array, mask_B: jax.Array | None = None) -> jax.Array:
        """q_BK: to which prototypes each image is assigned, so that all have as many of
        them: Sinkhorn-Knopp (eq. 3 to 5; section 3.1). Over all devices' images.

        Args:
          mask_B: False where a row is padding, which is assigned to none.
        """
        B, K = scores_BK.shape
        # The largest score taken off cancels, and no exp overflows.
        q_BK = jnp.exp((scores_BK - scores_BK.max()) / self.epsilon)
        if mask_B is not None:
            q_BK, B = q_BK * mask_B[:, None], mask_B.sum()
        q_BK = q_BK / q_BK.sum()
        for _ in range(self.sinkhorn_steps):
            q_BK = q_BK / (_above_zero(q_BK.sum(0, keepdims=True)) * K)
            q_BK = q_BK / (_above_zero(q_BK.sum(1, keepdims=True)) * B)
        return q_BK * B

    def loss(self, params, model_state, crops, labels_B, key, frozen):
        """The objective, the online probe's loss, and what shows a collapse.

        Args:
          frozen: whether the prototypes get no gradient.
        """
        fixed = jax.lax.stop_gradient(params["predictor"])
        params = params | {"predictor": _where(frozen, fixed, params["predictor"])}
        loss_B, outputs, model_state = self.objective(params, model_state, crops, key)
        probe_loss, metrics = joint_embedding.judged(loss_B, outputs, labels_B)
        return loss_B.mean() + probe_loss, (model_state, metrics)

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        crops = joint_embedding.crops_of(self.views, batch, key, self.small_crops)
        frozen = state.step < self.freeze_steps
        # Each prototype has length 1 as the step begins, as in the code.
        prototypes = jax.tree.map(
            lambda kernel_PK: unit_length(kernel_PK.T).T, state.params["predictor"]
        )
        state = state.replace(params=state.params | {"predictor": prototypes})
        state, metrics = gradient_step(
            lambda params: self.loss(
                params, state.model_state, crops, batch["label"], key, frozen
            ),
            self.tx,
            state,
        )
        prototypes = _where(frozen, prototypes, state.params["predictor"])
        return state.replace(params=state.params | {"predictor": prototypes}), metrics

    def eval_step(self, state: TrainState, batch: Batch, key) -> Metrics:
        """The objective on held-out images, on their own batch's statistics; and the
        effective rank of their features."""
        crops = joint_embedding.crops_of(self.views, batch, key, self.small_crops)
        loss_B, _, _ = self.objective(
            state.params, state.model_state, crops, key, batch["mask"]
        )
        return joint_embedding.held_out(
            loss_B, self.features(state, batch), batch["mask"]
        )


def _above_zero(sums):
    """A prototype that underflows for all images, or padding, divides 0 by this."""
    return jnp.maximum(sums, 1e-30)


def _where(so, one, other):
    return jax.tree.map(lambda a, b: jnp.where(so, a, b), one, other)
