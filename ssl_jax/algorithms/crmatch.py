"""CRMatch: FixMatch that also tells apart, in features, the views that it labels alike.

Fan, Kukleva, Dai and Schiele, "Revisiting Consistency Regularization for
Semi-Supervised Learning", arXiv:2112.05825; symbols are the paper's. Beside FixMatch's
losses, a linear head's embeddings of an image's two views are to be as unlike as they
may be (L_Dist, of equivariance), where the image gets a pseudo-label; and a third head
tells by how many quarter turns a weak view was rotated (L_Rot).

Departures: from USB (microsoft/Semi-supervised-learning,
semilearn/algorithms/crmatch/crmatch.py at 1ef4cbe), the embedding is of the encoder's
features, where theirs is of the last map, all positions beside each other; each
unlabeled image of the step is rotated by a turn that is drawn, where theirs rotates 64
others by all four. Where weak views go apart (`weak_gradient=False`), L_Dist moves the
strong view's embedding alone, and BatchNorm sees the two apart.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ssl_jax.algorithms.fixmatch import FixMatch
from ssl_jax.algorithms.remixmatch import rotate
from ssl_jax.core import Batch, PyTree, TrainState, mean
from ssl_jax.core.losses import (
    cosine_similarity_per_example,
    cross_entropy_per_example,
)
from ssl_jax.core.ranges import Weight
from ssl_jax.models import Classifier

TURNS = np.uint32(2**31 + 2)  # behind what `core.model_rngs` has of a step's key


class Distance(nn.Module):
    """An embedding of features, in as many numbers."""

    @nn.compact
    def __call__(self, features_BD: jax.Array) -> jax.Array:
        return nn.Dense(features_BD.shape[-1])(features_BD)


class Rotation(nn.Module):
    """Linear, ReLU, Linear: logits_B4 of 0 to 3 quarter turns."""

    @nn.compact
    def __call__(self, features_BD: jax.Array) -> jax.Array:
        y_BD = nn.Dense(features_BD.shape[-1])(features_BD)
        return nn.Dense(4)(nn.relu(y_BD))


class Network(Classifier):
    """The classifier, and two heads more. The first and the encoder keep their names,
    so the variables fit `Classifier` as well."""

    def setup(self):
        super().setup()
        self.rotation_head, self.distance_head = Rotation(), Distance()

    def __call__(self, images_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """Logits, those of turns, and the embedding: [B, K + 4 + D]."""
        y_BD = self.features(images_BHWC, train=train)
        if train:
            y_BD = self.dropped(y_BD)
        said = self.head(y_BD), self.rotation_head(y_BD), self.distance_head(y_BD)
        return jnp.concatenate(said, axis=-1)


@dataclass(frozen=True, kw_only=True)
class CRMatch(FixMatch):
    model: Classifier
    distance_weight: Weight = 1.0  # of L_Dist
    rotation_weight: Weight = 1.0  # of L_Rot

    @property
    def network(self) -> Network:
        model = self.model
        return Network(model.encoder, model.num_classes, model.dropout)

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        with_all_heads = replace(self, model=self.network)
        return FixMatch.init(with_all_heads, key, batch, initial)

    def loss(self, params, state: TrainState, views, batch: Batch, key):
        rotated_UHWC, turns_U = rotate(jax.random.fold_in(key, TURNS), views[1])
        outputs, model_state = self.logits(
            params, state.model_state, (*views, rotated_UHWC), key
        )
        x_B, weak_U, strong_U, rotated_U = outputs
        K = self.model.num_classes
        loss, metrics, targets, thresholds = self.compared(
            state, batch, x_B[:, :K], weak_U[:, :K], strong_U[:, :K]
        )
        like_U = cosine_similarity_per_example(weak_U[:, K + 4 :], strong_U[:, K + 4 :])
        distance_loss = (jnp.maximum(like_U, 0) * targets.weight_U).mean()
        turns_U4 = rotated_U[:, K : K + 4]
        rotation_loss = cross_entropy_per_example(turns_U4, turns_U).mean()
        metrics |= {
            "distance_loss": mean(distance_loss),
            "rotation_loss": mean(rotation_loss),
            "rotation_accuracy": mean(turns_U4.argmax(-1) == turns_U),
        }
        loss += self.distance_weight * distance_loss
        loss += self.rotation_weight * rotation_loss
        return loss, (model_state, metrics, thresholds)
