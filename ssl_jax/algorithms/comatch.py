"""CoMatch: images with alike pseudo-labels get alike embeddings, and the other way.

Li et al., "CoMatch: Semi-supervised Learning with Contrastive Graph Regularization",
arXiv:2011.11183; symbols are the paper's. "The code" is the authors' own
(salesforce/CoMatch, Train_CoMatch.py and WideResNet.py at 08b4cce).

Departures: from the code, both strong views are drawn by `views.strong`, as in USB
(microsoft/Semi-supervised-learning, semilearn/algorithms/comatch/comatch.py at
1ef4cbe), where its second one is SimCLR's; no 1e-7 in the logarithm of similarities,
but 1e-6 beside the mean prediction, as USB has it. From USB: memory smooths from the
step after it is full, as in the code, where that waits for the second epoch; and there
is one projector, as in the code, where its settings have the mean of three
(`use_epass`), with no slope below 0.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax

from ssl_jax import core
from ssl_jax.algorithms.shared import ema_teacher, embeddings
from ssl_jax.algorithms.shared.embeddings import Outputs, product
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core import Algorithm, Batch, Metrics, PyTree, TrainState
from ssl_jax.core.losses import (
    cross_entropy_per_example,
    soft_cross_entropy_per_example,
)
from ssl_jax.core.metrics import pseudo_label_quality
from ssl_jax.core.ranges import Count, Decay, Positive, Share, Weight
from ssl_jax.models import Classifier


@dataclass(frozen=True, kw_only=True)
class CoMatch(Algorithm):
    """The last steps' embeddings and predictions are in extra["memory"]."""

    draws_from: ClassVar[str] = "labeled"
    needs_unlabeled: ClassVar[bool] = True
    views_kind: ClassVar[str] = "weak_strong"
    learns_augmentation: ClassVar[bool] = True
    model: Classifier
    tx: optax.GradientTransformation
    views: WeakStrong
    threshold: Share = 0.95  # tau: predictions at least this sure become labels
    unlabeled_weight: Weight = 1.0  # lambda_cls
    contrast_weight: Weight = 1.0  # lambda_ctr
    contrast_threshold: Share = 0.8  # T: pseudo-labels at least as alike are neighbours
    temperature: Positive = 0.2  # t of similarities
    smoothing: Share = 0.9  # alpha: a prediction's own part; the memory has the rest
    memory_steps: Count = 5  # whose labeled and weak views are remembered
    projection: Count = 64  # P: numbers of an embedding
    ema_decay: Decay = 0.999  # of the parameters; evaluation only
    ema_warmup: bool = True  # it rises to that, so that the teacher forgets its start
    # True: one pass over all views together, as the code. False: the weak views go
    # first, alone, which saves their backward pass; BatchNorm then sees them apart from
    # the labeled images in the memory. Neither has a gradient by them.
    weak_gradient: bool = True

    # By the classifier alone, which takes from the average what it has modules for.
    predict = ema_teacher.predict
    features = ema_teacher.features

    @property
    def network(self) -> embeddings.Network:
        return embeddings.beside(self.model, self.projection, slope=0.1)

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        state = embeddings.init(self, key, batch, initial)
        S, K = self.memory_steps, self.model.num_classes
        R = len(batch["image"]) + len(batch.get("unlabeled_image", ()))
        memory = {
            "embedding_SRP": jnp.zeros((S, R, self.projection)),
            "probs_SRK": jnp.zeros((S, R, K)),
        }
        return state.replace(extra={**state.extra, "memory": memory})

    def pseudo_labels(
        self, state: TrainState, labeled: Outputs, weak: Outputs, label_B
    ):
        """(q_UK, aligned and smoothed by memory; the extra with this step in it)."""
        step, extra = state.step, state.extra
        K = self.model.num_classes
        aligned_UK, marginals_SK = embeddings.aligned(state, weak.logits_BK)

        memory = extra["memory"]
        past_MP = memory["embedding_SRP"].reshape(-1, self.projection)
        like_UM = jax.nn.softmax(product(weak.embedding_BP, past_MP) / self.temperature)
        near_UK = product(like_UM, memory["probs_SRK"].reshape(-1, K).T)
        smoothed_UK = self.smoothing * aligned_UK + (1 - self.smoothing) * near_UK
        full = step > self.memory_steps
        q_UK = jnp.where(full, smoothed_UK, aligned_UK)

        # Remembered as aligned, not as smoothed; of labeled images the label.
        label_BK = jax.nn.one_hot(label_B, K)
        now = {
            "embedding_SRP": (weak.embedding_BP, labeled.embedding_BP),
            "probs_SRK": (aligned_UK, label_BK),
        }
        memory = {
            name: memory[name]
            .at[step % self.memory_steps]
            .set(jnp.concatenate(list(map(core.on_every_device, rows))))
            for name, rows in now.items()
        }
        return q_UK, {**extra, "memory": memory, "marginals_SK": marginals_SK}

    def contrast(self, strong_UP, other_UP, q_UK) -> tuple[jax.Array, jax.Array]:
        """(loss_U: the cross-entropy of the embeddings' graph by the pseudo-labels',
        neighbours_U: how many each has there, itself among them)."""
        q_VK, other_VP = map(core.on_every_device, (q_UK, other_UP))  # V = U, all
        itself_UV = jnp.eye(len(q_UK), dtype=bool)
        graph_UV = jnp.where(itself_UV, 1, product(q_UK, q_VK))  # W^q
        graph_UV = jnp.where(graph_UV >= self.contrast_threshold, graph_UV, 0)
        target_UV = graph_UV / graph_UV.sum(-1, keepdims=True)
        similar_UV = product(strong_UP, other_VP) / self.temperature  # log W^z
        loss_U = soft_cross_entropy_per_example(similar_UV, target_UV)
        return loss_U, (graph_UV > 0).sum(-1)

    def loss(self, params, state: TrainState, views, batch: Batch, key):
        (labeled, weak, strong, other), model_state = embeddings.outputs(
            self, params, state.model_state, views, key
        )
        loss_B = cross_entropy_per_example(labeled.logits_BK, batch["label"])
        q_UK, extra = self.pseudo_labels(
            *jax.lax.stop_gradient((state, labeled, weak)), batch["label"]
        )
        mask_U = (q_UK.max(-1) >= self.threshold).astype(jnp.float32)
        loss_U = soft_cross_entropy_per_example(strong.logits_BK, q_UK)
        unlabeled_loss = (loss_U * mask_U).mean()  # over all U, kept or not
        contrast_U, neighbours_U = self.contrast(
            strong.embedding_BP, other.embedding_BP, q_UK
        )
        threshold_K = jnp.full(q_UK.shape[-1], self.threshold)
        metrics = {
            "labeled_loss": core.mean(loss_B),
            "unlabeled_loss": core.mean(unlabeled_loss),
            "contrast_loss": core.mean(contrast_U),
            "neighbours": core.mean(neighbours_U),
            "accuracy": core.mean(labeled.logits_BK.argmax(-1) == batch["label"]),
            **pseudo_label_quality(q_UK, mask_U, batch["unlabeled_label"], threshold_K),
        }
        loss = loss_B.mean() + self.unlabeled_weight * unlabeled_loss
        loss += self.contrast_weight * contrast_U.mean()
        return loss, (model_state, metrics, extra)

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        key_x, key_weak, key_strong, key_other, key_probe = jax.random.split(key, 5)
        rates = state.extra.get("rates")  # CTAugment's
        views = (
            self.views.weak(key_x, batch["image"]),
            self.views.weak(key_weak, batch["unlabeled_image"]),
            self.views.strong(key_strong, batch["unlabeled_image"], rates),
            self.views.strong(key_other, batch["unlabeled_image"], rates),
        )
        state, metrics, extra = core.gradient_step(
            lambda params: self.loss(params, state, views, batch, key), self.tx, state
        )
        state = ema_teacher.update(self, state.replace(extra=extra))
        return ema_teacher.probe(self, state, batch, key_probe), metrics
