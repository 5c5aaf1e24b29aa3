"""VICReg: two views agree, each feature varies, and no two features vary together.

Bardes et al., "VICReg: Variance-Invariance-Covariance Regularization for
Self-Supervised Learning", arXiv:2105.04906; equation numbers are the paper's.

Departures: from the paper, as in the authors' code (facebookresearch/vicreg,
main_vicreg.py at 4e12602), the invariance is a mean over features, too, where eq. 5 is
a sum over them, and the two views' variance terms are halved, where eq. 6 adds them up.
From the code: the online probe learns from the labels that are granted. Linear layers
begin as Flax's do.
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
class VICReg(Algorithm):
    """One network sees both views; its state has no `extra`."""

    draws_from: ClassVar[str] = "unlabeled"
    views_kind: ClassVar[str] = "two_crops"
    least_batch: ClassVar[int] = 2  # one image alone does not vary
    small: ClassVar[dict] = {"hidden": 16, "projection": 16}
    model: Classifier
    tx: optax.GradientTransformation
    views: TwoCrops
    hidden: Count = 8192  # of the expander, which has three layers
    projection: Count = 8192  # d
    invariance_weight: Weight = 25.0  # lambda
    variance_weight: Weight = 25.0  # mu
    covariance_weight: Weight = 1.0  # nu

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
        """(loss of eq. 6 over the images where `mask_B`, outputs of both views,
        model_state)."""
        outputs, model_state = joint_embedding.outputs_of(
            self.network, params, model_state, views, key
        )
        z_BP, z_other_BP = (output.projection_BP for output in outputs)
        square_B = ((z_BP - z_other_BP) ** 2).mean(-1)
        invariance = (square_B * mask_B).sum() / mask_B.sum()  # eq. 5
        terms = [_variance_and_covariance(z, mask_B) for z in (z_BP, z_other_BP)]
        (variance, covariance), (variance_other, covariance_other) = terms
        loss = (
            self.invariance_weight * invariance
            + self.variance_weight * (variance + variance_other) / 2
            + self.covariance_weight * (covariance + covariance_other)
        )
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


def _variance_and_covariance(z_BP, mask_B):
    """v(Z) of eq. 1 with gamma = 1, and c(Z) of eq. 4."""
    z_BP, P = joint_embedding.centred(z_BP, mask_B), z_BP.shape[1]
    # One image alone is 0 / 1, not 0 / 0.
    freedom = jnp.maximum(mask_B.sum() - 1, 1)
    covariance_PP = (
        jnp.matmul(z_BP.T, z_BP, precision=jax.lax.Precision.HIGHEST) / freedom
    )
    variance_P = covariance_PP.diagonal()
    hinge_P = jax.nn.relu(1 - jnp.sqrt(variance_P + 1e-4))
    apart_PP = covariance_PP * (1 - jnp.eye(P))
    return hinge_P.mean(), (apart_PP**2).sum() / P
