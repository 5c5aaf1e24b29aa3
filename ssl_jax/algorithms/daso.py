"""DASO: FixMatch whose pseudo-labels listen to likeness where their class is frequent.

Oh, Kim and Kweon, "DASO: Distribution-Aware Semantics-Oriented Pseudo-label for
Imbalanced Semi-Supervised Learning", arXiv:2106.05682; symbols are the paper's. A class
has a prototype, the mean of features that the teacher gave its last labeled images. How
like an image is to each is another prediction, which leans less to frequent classes
than the classifier's. The two are mixed by how many pseudo-labels a class has of late,
and a strong view is to be as like each prototype as the weak one is.

Departures: the constants are USB's for CIFAR-10 (microsoft/Semi-supervised-learning,
semilearn/imb_algorithms/daso/ at 1ef4cbe), the authors' (ytaek-oh/daso,
lib/models/daso_model.py, lib/models/feature_queue.py, lib/config/defaults.py and
configs/ at 3541a6c) but for the warm-up, of 5,000 steps there; the teacher's features
are as in evaluation; before the first count of pseudo-labels classes have as many. From
USB, as in the authors' code: likeness begins to count in labels and in the loss at one
step, is that of the step's own weak views (USB mixes in that of the step before), and
confidence is read from the mixture.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ssl_jax import core
from ssl_jax.algorithms.fixmatch import FixMatch, Seen, Targets
from ssl_jax.algorithms.shared import ema_teacher
from ssl_jax.algorithms.shared.embeddings import product
from ssl_jax.core import Batch, PyTree, TrainState
from ssl_jax.core.losses import soft_cross_entropy_per_example, unit_length
from ssl_jax.core.ranges import Count, Positive, Weight, Whole
from ssl_jax.models import Classifier


class Network(Classifier):
    """The classifier, which gives its features as well."""

    def __call__(self, images_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """Logits, and then features: [B, K + D]."""
        y_BD = self.features(images_BHWC, train=train)
        logits_BK = self.head(self.dropped(y_BD) if train else y_BD)
        return jnp.concatenate([logits_BK, y_BD], axis=-1)


@dataclass(frozen=True, kw_only=True)
class DASO(FixMatch):
    """The last features of each class are in extra["thresholds"] too."""

    model: Classifier
    warmup_steps: Whole = 5120  # of FixMatch, before prototypes have a say
    queue: Count = 256  # L: features of a class, whose mean is its prototype
    proto_temperature: Positive = 0.05  # T_proto: of likeness
    # T_dist: of the pseudo-labels' proportions. Its authors have 0.3 on CIFAR-100 and
    # STL-10, and where unlabeled images are not in the labels' proportions.
    dist_temperature: Positive = 1.5
    count_every: Count = 100  # steps that pseudo-labels are counted over
    assign_weight: Weight = 1.0  # lambda_align: of likeness in the loss

    @property
    def network(self) -> Network:
        model = self.model
        return Network(model.encoder, model.num_classes, model.dropout)

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        state = FixMatch.init(self, key, batch, initial)
        D, K = state.params["head"]["kernel"].shape
        thresholds = {
            "counted_K": jnp.zeros(K),  # pseudo-labels since the last count
            "share_K": jnp.ones(K),  # v_k: of likeness, where that is the label
            "features_KLD": jnp.zeros((K, self.queue, D)),
            "seen_K": jnp.zeros(K, jnp.int32),  # labeled images so far
        }
        return state.replace(extra={**state.extra, "thresholds": thresholds})

    def remembered(self, state: TrainState, x_BHWC, label_B) -> PyTree:
        """The last features of each class, a step's labeled images among them."""
        memory, L = state.extra["thresholds"], self.queue
        teacher = ema_teacher.variables(state)
        features_BD, _ = core.forward(
            self.model, *teacher, x_BHWC, train=False, method="features"
        )
        label_B, features_BD = map(core.on_every_device, (label_B, features_BD))
        is_BK = jax.nn.one_hot(label_B, self.model.num_classes, dtype=jnp.int32)
        count_K = is_BK.sum(0)
        earlier_B = ((jnp.cumsum(is_BK, axis=0) - is_BK) * is_BK).sum(-1)
        slot_B = (memory["seen_K"][label_B] + earlier_B) % L
        # One after which L others of its class come is behind the end, where it drops.
        slot_B = jnp.where(earlier_B >= count_K[label_B] - L, slot_B, L)
        features_KLD = memory["features_KLD"].at[label_B, slot_B]
        return {
            "features_KLD": features_KLD.set(features_BD, mode="drop"),
            "seen_K": memory["seen_K"] + count_K,
        }

    def similarity(self, features_UD, memory) -> jax.Array:
        """Of images to each class's prototype, [U, K], over the temperature."""
        there_K = jnp.clip(memory["seen_K"], 1, self.queue)
        prototype_KD = memory["features_KLD"].sum(1) / there_K[:, None]
        like_UK = product(unit_length(features_UD), unit_length(prototype_KD))
        return like_UK / self.proto_temperature

    def mixed(self, probs_UK, like_UK, share_K) -> jax.Array:
        """p': predictions mixed with likeness, by the share of what is predicted."""
        share_U1 = share_K[probs_UK.argmax(-1)][:, None]
        return (1 - share_U1) * probs_UK + share_U1 * like_UK

    def targets(self, thresholds, seen: Seen) -> tuple[Targets, dict[str, jax.Array]]:
        """FixMatch's, of mixed predictions; which are counted."""
        targets, _ = FixMatch.targets(self, thresholds, seen)
        counted_K = thresholds["counted_K"] + targets.target_UK.sum(0)
        tempered_K = counted_K ** (1 / self.dist_temperature)
        counts = (seen.step + 1) % self.count_every == 0
        now = {
            "counted_K": jnp.where(counts, 0, counted_K),
            "share_K": jnp.where(
                counts, tempered_K / tempered_K.max(), thresholds["share_K"]
            ),
        }
        return targets, {**thresholds, **now}

    def loss(self, params, state: TrainState, views, batch: Batch, key):
        joined, model_state = self.logits(params, state.model_state, views, key)
        (x_BK, _), (weak_UK, weak_UD), (strong_UK, strong_UD) = (
            jnp.split(of_view, [self.model.num_classes], axis=-1) for of_view in joined
        )
        fixed = jax.lax.stop_gradient(state)
        weak_UK, weak_UD = jax.lax.stop_gradient((weak_UK, weak_UD))
        memory = self.remembered(fixed, views[0], batch["label"])
        like_UK = jax.nn.softmax(self.similarity(weak_UD, memory))
        probs_UK = jax.nn.softmax(weak_UK.astype(jnp.float32))
        share_K = fixed.extra["thresholds"]["share_K"]
        mixed_UK = self.mixed(probs_UK, like_UK, share_K)
        used = state.step >= self.warmup_steps
        log_mixed_UK = jnp.log(jnp.maximum(mixed_UK, 1e-30))
        loss, metrics, _, thresholds = self.compared(
            state, batch, x_BK, jnp.where(used, log_mixed_UK, weak_UK), strong_UK
        )
        assign_U = soft_cross_entropy_per_example(
            self.similarity(strong_UD, memory), like_UK
        )
        assign_loss = jnp.where(used, assign_U.mean(), 0)
        metrics["assign_loss"] = core.mean(assign_loss)
        loss += self.assign_weight * assign_loss
        return loss, (model_state, metrics, {**thresholds, **memory})
