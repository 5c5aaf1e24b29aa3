"""SimMatch: two views are as like the labeled images as each other, and are told apart
alike.

Zheng et al., "SimMatch: Semi-supervised Learning with Similarity Matching",
arXiv:2203.06915; symbols are the paper's. "The code" is the authors' own
(mingkai-zheng/SimMatch, models/simmatch.py and simmatch.py at f10254b), which is for
ImageNet; for CIFAR-10 the paper has the network itself for a teacher, and memory moved
by a part, as in USB (microsoft/Semi-supervised-learning,
semilearn/algorithms/simmatch/simmatch.py at 1ef4cbe), which are the settings here.

Departures: from USB, an embedding of the memory is brought to length 1 over its own
numbers, where its code does so over the batch; an image that a step draws twice moves
there by the mean; the memory begins as zeros and not at random, and is used from a
step on and not from the second epoch on; no view has a gradient as a target, and there
is one projector, both as in the code, where USB's settings have the mean of three
(`use_epass`).
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
    unit_length,
)
from ssl_jax.core.metrics import pseudo_label_quality
from ssl_jax.core.ranges import Count, Decay, Positive, Share, Weight, Whole
from ssl_jax.models import Classifier


@dataclass(frozen=True, kw_only=True)
class SimMatch(Algorithm):
    """Embeddings and labels of all N labeled images are in extra["memory"]."""

    draws_from: ClassVar[str] = "labeled"
    needs_unlabeled: ClassVar[bool] = True
    views_kind: ClassVar[str] = "weak_strong"
    learns_augmentation: ClassVar[bool] = True
    model: Classifier
    tx: optax.GradientTransformation
    views: WeakStrong
    num_labeled: int  # N
    threshold: Share = 0.95  # tau: predictions at least this sure become labels
    unlabeled_weight: Weight = 1.0  # lambda_u
    instance_weight: Weight = 1.0  # lambda_in: of likeness to the labeled images
    temperature: Positive = 0.1  # t of similarities
    smoothing: Share = 0.9  # alpha: a prediction's own part; like images have the rest
    memory_decay: Decay = 0.7  # m: of the embeddings in the memory
    memory_after: Whole = 1024  # steps before it is used: an epoch of USB's
    projection: Count = 128  # P: numbers of an embedding
    ema_decay: Decay = 0.999  # of the parameters; evaluation only
    ema_warmup: bool = True  # it rises to that, so that the teacher forgets its start
    # True: one pass over all views together, as in USB. False: the weak views go
    # first, alone, which saves their backward pass; BatchNorm then sees them apart from
    # the labeled images in the memory. Neither has a gradient by them.
    weak_gradient: bool = True

    # By the classifier alone, which takes from the average what it has modules for.
    predict = ema_teacher.predict
    features = ema_teacher.features

    @property
    def network(self) -> embeddings.Network:
        return embeddings.beside(self.model, self.projection)

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        state = embeddings.init(self, key, batch, initial)
        memory = {
            "embedding_NP": jnp.zeros((self.num_labeled, self.projection)),
            "label_N": jnp.zeros(self.num_labeled, jnp.int32),
        }
        return state.replace(extra={**state.extra, "memory": memory})

    def used(self, step: jax.Array, batch_size: int) -> jax.Array:
        """Whether memory has a say: every labeled image is in it by then."""
        all_seen = -(-self.num_labeled // batch_size)
        return step >= max(self.memory_after, all_seen)

    def pseudo_labels(self, probs_UK, memory, weak_UP) -> tuple[jax.Array, jax.Array]:
        """(p of the classes, smoothed by what like images are, [U, K]; q of the labeled
        images, each weighed by what the prediction says of its class, [U, N])."""
        label_NK = jax.nn.one_hot(memory["label_N"], probs_UK.shape[-1])
        like_UN = self.likeness(memory, weak_UP)
        of_class_UK = product(like_UN, label_NK.T)
        smoothed_UK = self.smoothing * probs_UK + (1 - self.smoothing) * of_class_UK
        unfolded_UN = like_UN * product(probs_UK, label_NK)
        return smoothed_UK, unfolded_UN / unfolded_UN.sum(-1, keepdims=True)

    def likeness(self, memory, embedding_UP) -> jax.Array:
        """q: how like each labeled image is, a distribution over N."""
        return jax.nn.softmax(self.similarity(memory, embedding_UP))

    def similarity(self, memory, embedding_UP) -> jax.Array:
        return product(embedding_UP, memory["embedding_NP"]) / self.temperature

    def remembered(self, memory, labeled: Outputs, batch: Batch) -> PyTree:
        """The memory with a step's labeled images in it."""
        index_B, label_B, embedding_BP = map(
            core.on_every_device,
            (batch["index"], batch["label"], labeled.embedding_BP),
        )
        before_NP = memory["embedding_NP"]
        drawn_N = jnp.zeros(len(before_NP)).at[index_B].add(1)
        sum_NP = jnp.zeros_like(before_NP).at[index_B].add(embedding_BP)
        mean_NP = sum_NP / jnp.maximum(drawn_N, 1)[:, None]
        moved_NP = unit_length(core.ema(before_NP, mean_NP, self.memory_decay))
        return {
            "embedding_NP": jnp.where(drawn_N[:, None] > 0, moved_NP, before_NP),
            "label_N": memory["label_N"].at[index_B].set(label_B),
        }

    def loss(self, params, state: TrainState, views, batch: Batch, key):
        (labeled, weak, strong), model_state = embeddings.outputs(
            self, params, state.model_state, views, key
        )
        loss_B = cross_entropy_per_example(labeled.logits_BK, batch["label"])
        memory = jax.lax.stop_gradient(state.extra["memory"])
        probs_UK, marginals_SK = embeddings.aligned(
            jax.lax.stop_gradient(state), weak.logits_BK
        )
        smoothed_UK, unfolded_UN = self.pseudo_labels(
            probs_UK, memory, weak.embedding_BP
        )
        used = self.used(state.step, len(loss_B))
        p_UK = jnp.where(used, smoothed_UK, probs_UK)
        mask_U = (p_UK.max(-1) >= self.threshold).astype(jnp.float32)
        loss_U = soft_cross_entropy_per_example(strong.logits_BK, p_UK)
        unlabeled_loss = (loss_U * mask_U).mean()  # over all U, kept or not
        similar_UN = self.similarity(memory, strong.embedding_BP)
        instance_loss = soft_cross_entropy_per_example(similar_UN, unfolded_UN).mean()
        instance_loss = jnp.where(used, instance_loss, 0)
        threshold_K = jnp.full(p_UK.shape[-1], self.threshold)
        metrics = {
            "labeled_loss": core.mean(loss_B),
            "unlabeled_loss": core.mean(unlabeled_loss),
            "instance_loss": core.mean(instance_loss),
            "accuracy": core.mean(labeled.logits_BK.argmax(-1) == batch["label"]),
            **pseudo_label_quality(p_UK, mask_U, batch["unlabeled_label"], threshold_K),
        }
        loss = loss_B.mean() + self.unlabeled_weight * unlabeled_loss
        loss += self.instance_weight * instance_loss
        memory = self.remembered(memory, jax.lax.stop_gradient(labeled), batch)
        extra = {**state.extra, "memory": memory, "marginals_SK": marginals_SK}
        return loss, (model_state, metrics, extra)

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        key_x, key_weak, key_strong, key_probe = jax.random.split(key, 4)
        rates = state.extra.get("rates")  # CTAugment's
        views = (
            self.views.weak(key_x, batch["image"]),
            self.views.weak(key_weak, batch["unlabeled_image"]),
            self.views.strong(key_strong, batch["unlabeled_image"], rates),
        )
        state, metrics, extra = core.gradient_step(
            lambda params: self.loss(params, state, views, batch, key), self.tx, state
        )
        state = ema_teacher.update(self, state.replace(extra=extra))
        return ema_teacher.probe(self, state, batch, key_probe), metrics
