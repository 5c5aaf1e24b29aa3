"""MoCo v3 and v2: a view finds its image among what a moving average says of others.

v3: Chen, Xie and He, "An Empirical Study of Training Self-Supervised Vision
Transformers", arXiv:2104.02057, section 3 and algorithm 1. Both views, the batch's
other images, and a predictor. v2: Chen et al., "Improved Baselines with Momentum
Contrastive Learning", arXiv:2003.04297, which is MoCo (He et al., arXiv:1911.05722,
algorithm 1) with SimCLR's head and views. One view, and a queue of earlier images.

Departures: from v3's code (facebookresearch/moco-v3, moco/builder.py at c349e6e), the
heads are those that it has on ResNets on any encoder, hidden layers have biases, which
the BatchNorm after them takes away again, a Vision Transformer is models/vit.py as it
is, whose patches and positions learn and whose kernels begin as timm's, where theirs
stay (`--stop-grad-conv1`), stay at sines and cosines, and begin as Xavier's (vits.py),
and the temperature is the paper's. From v2's
(facebookresearch/moco, moco/builder.py at 7397dfe), BatchNorm of the keys is over the
batch of all devices, which are therefore not shuffled, and keys have BatchNorm of their
own batch as there. From both, the online probe learns from the labels that are granted.
Linear layers begin as Flax's do.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from ssl_jax.algorithms.shared import joint_embedding
from ssl_jax.algorithms.shared.joint_embedding import (
    MLP,
    Network,
    NormalisedMLP,
    target_of,
)
from ssl_jax.augment.two_crops import TwoCrops
from ssl_jax.core import (
    Algorithm,
    Batch,
    Metrics,
    PyTree,
    TrainState,
    ema,
    gathered,
    gradient_step,
    init_state,
)
from ssl_jax.core.losses import cross_entropy_per_example, unit_length
from ssl_jax.core.ranges import Count, Positive, Share, Whole
from ssl_jax.errors import UserError
from ssl_jax.models import Classifier


@dataclass(frozen=True, kw_only=True)
class MoCo(Algorithm):
    """The momentum encoder is in extra["target"], and what is queued in
    extra["queue_QP"], oldest where the next keys go."""

    draws_from: ClassVar[str] = "unlabeled"
    views_kind: ClassVar[str] = "two_crops"
    least_batch: ClassVar[int] = 2  # BatchNorm in the heads makes one image alone 0
    gathers: ClassVar[bool] = True
    small: ClassVar[dict] = {"hidden": 16, "projection": 16}
    model: Classifier
    tx: optax.GradientTransformation
    views: TwoCrops
    total_steps: int
    queue: Whole = 0  # K: keys of v2, a multiple of the batch (65,536); 0: v3
    hidden: Count = 4096  # of v3's heads; v2's: 2,048
    projection: Count = 256  # v2's: 128
    temperature: Positive = 0.2  # tau of both
    momentum: Share = 0.99  # m, from which v3's rises to 1; v2's: 0.999

    predict = joint_embedding.predict
    features = joint_embedding.features

    @property
    def network(self) -> Network:
        if self.queue:
            projector = MLP(self.hidden, self.projection, norm=False)
            predictor = None
        else:
            projector = NormalisedMLP(self.hidden, self.projection)
            predictor = MLP(self.hidden, self.projection, bias=False)
        return Network(
            encoder=self.model.encoder,
            projector=projector,
            predictor=predictor,
            num_classes=self.model.num_classes,
        )

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        """
        Raises:
          UserError: the queue does not hold whole batches.
        """
        B = len(batch["image"])
        if self.queue % B:
            raise UserError(
                f"algorithm.queue={self.queue} must be a multiple of batch_size={B}, "
                "or 0 for MoCo v3, which has none."
            )
        key_model, key_queue = jax.random.split(key)
        x_BHWC = self.views.plain(batch["image"])
        state = init_state(self.network, self.tx, key_model, x_BHWC, initial)
        extra = {"target": target_of(state.params)}
        if self.queue:
            shape = (self.queue, self.projection)
            extra["queue_QP"] = unit_length(jax.random.normal(key_queue, shape))
        return state.replace(extra=extra)

    def decay(self, step: jax.Array) -> jax.Array | float:
        """m of the momentum encoder: v2's stays, v3's rises to 1."""
        if self.queue:
            return self.momentum
        return joint_embedding.to_one(self.momentum, step, self.total_steps)

    def objective(self, params, model_state, extra, views, key, mask_B=None):
        """(loss_B, outputs of the views with gradient, keys_BP of the second view,
        model_state)."""
        asking = views[:1] if self.queue else views
        outputs, moved = joint_embedding.outputs_of(
            self.network, params, model_state, asking, key
        )
        answering = views[1:] if self.queue else views
        keys = joint_embedding.targets_of(
            *(self.network, extra["target"], model_state, answering, key),
            after=len(asking),
        )
        keys = [unit_length(key_BP) for key_BP in keys]
        if self.queue:
            queue_QP = jax.lax.stop_gradient(extra["queue_QP"])
            loss_B = self._queued(outputs[0].projection_BP, keys[0], queue_QP)
        else:
            first, second = (output.prediction_BP for output in outputs)
            loss_B = self._in_batch(first, keys[1], mask_B)
            loss_B = loss_B + self._in_batch(second, keys[0], mask_B)
        return loss_B, outputs, keys[-1], moved

    def _queued(self, query_BP, key_BP, queue_QP):
        """-log of the share of each image's key among it and the queued ones."""
        query_BP = unit_length(query_BP)
        own_B1 = (query_BP * key_BP).sum(-1, keepdims=True)
        queued_BQ = jnp.matmul(
            query_BP, queue_QP.T, precision=jax.lax.Precision.HIGHEST
        )
        logits = jnp.concatenate([own_B1, queued_BQ], axis=1) / self.temperature
        return cross_entropy_per_example(logits, jnp.zeros(len(logits), jnp.int32))

    def _in_batch(self, query_BP, key_BP, mask_B):
        """2 tau times -log of the share of each image's key among all of the batch."""
        logits_BB = jnp.matmul(
            unit_length(query_BP),
            gathered(key_BP).T,
            precision=jax.lax.Precision.HIGHEST,
        )
        logits_BB = logits_BB / self.temperature
        if mask_B is not None:  # padding is compared with nothing
            logits_BB = jnp.where(mask_B[None], logits_BB, joint_embedding.FAR)
        # By comparison: a gather would leave the device that the row is on.
        itself_BB = jnp.eye(len(logits_BB), dtype=bool)
        log_B = jnp.where(itself_BB, jax.nn.log_softmax(logits_BB), 0).sum(-1)
        return -2 * self.temperature * log_B

    def loss(self, params, model_state, extra, views, labels_B, key):
        """The objective, the online probe's loss, and what shows a collapse; and the
        keys to be queued."""
        loss_B, outputs, key_BP, model_state = self.objective(
            params, model_state, extra, views, key
        )
        probe_loss, metrics = joint_embedding.judged(loss_B, outputs, labels_B)
        return loss_B.mean() + probe_loss, (model_state, metrics, key_BP)

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        views, step = joint_embedding.two_views(self.views, batch, key), state.step
        # The momentum encoder moves before its keys are taken, as in both codes.
        target = ema(state.extra["target"], target_of(state.params), self.decay(step))
        extra = {**state.extra, "target": target}
        state, metrics, key_BP = gradient_step(
            lambda params: self.loss(
                params, state.model_state, extra, views, batch["label"], key
            ),
            self.tx,
            state,
        )
        if self.queue:
            B = len(key_BP)
            at = step % (self.queue // B) * B
            extra["queue_QP"] = jax.lax.dynamic_update_slice_in_dim(
                extra["queue_QP"], gathered(key_BP), at, axis=0
            )
        return state.replace(extra=extra), metrics

    def eval_step(self, state: TrainState, batch: Batch, key) -> Metrics:
        """The objective on held-out images, on their own batch's statistics; and the
        effective rank of their features."""
        views = joint_embedding.two_views(self.views, batch, key)
        loss_B, _, _, _ = self.objective(
            *(state.params, state.model_state, state.extra, views, key),
            batch["mask"],
        )
        return joint_embedding.held_out(
            loss_B, self.features(state, batch), batch["mask"]
        )
