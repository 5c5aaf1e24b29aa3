"""What BYOL and SimSiam are made of: a network, two views, and what is measured.

Both draw two views of each image and ask that one network's prediction of one be like
the projection of the other. An algorithm with the fields model and views and the
property `network` takes the two functions at the end as its methods:
`predict = joint_embedding.predict`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.augment.two_crops import TwoCrops
from ssl_jax.core import (
    Batch,
    Metrics,
    PyTree,
    TrainState,
    forward,
    mean,
    model_rngs,
)
from ssl_jax.core.losses import cross_entropy_of_labeled
from ssl_jax.core.metrics import projection_std
from ssl_jax.models.shared.batch_norm import BatchNorm


class MLP(nn.Module):
    """Linear, BatchNorm, ReLU, Linear: projector and predictor (BYOL, section 3.3)."""

    hidden: int
    out: int
    bias: bool = True  # of the last layer

    @nn.compact
    def __call__(self, x_BD: jax.Array, *, train: bool) -> jax.Array:
        y = nn.Dense(self.hidden)(x_BD)
        y = BatchNorm(use_running_average=not train, momentum=0.9)(y)
        return nn.Dense(self.out, use_bias=self.bias)(nn.relu(y))


class Outputs(NamedTuple):
    """Of one view."""

    projection_BP: jax.Array  # z
    prediction_BP: jax.Array  # q(z)
    logits_BK: jax.Array | None  # of the online probe, where there are classes


class Network(nn.Module):
    """Encoder f, projector g, predictor q, and a linear head, the online probe, that
    sends no gradient back to the encoder; no head where there are no classes."""

    encoder: nn.Module
    projector: nn.Module
    predictor: nn.Module
    num_classes: int

    def setup(self):
        if self.num_classes:
            self.head = nn.Dense(self.num_classes)

    def __call__(self, images_BHWC: jax.Array, *, train: bool) -> Outputs:
        y_BD = self.features(images_BHWC, train=train)
        z_BP = self.projector(y_BD, train=train)
        logits_BK = None
        if self.num_classes:
            logits_BK = self.head(jax.lax.stop_gradient(y_BD))
        return Outputs(z_BP, self.predictor(z_BP, train=train), logits_BK)

    def features(self, images_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """The representation y_BD."""
        return self.encoder(images_BHWC, train=train).astype(jnp.float32)

    def project(self, images_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """The projection z_BP."""
        return self.projector(self.features(images_BHWC, train=train), train=train)

    def classify(self, images_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """The online probe's logits_BK."""
        return self.head(self.features(images_BHWC, train=train))


def two_views(views: TwoCrops, batch: Batch, key) -> tuple[jax.Array, jax.Array]:
    """v = t(x) and v' = t'(x) of the batch's images."""
    key_first, key_second = jax.random.split(key)
    images = batch["image"]
    return views.first(key_first, images), views.second(key_second, images)


def outputs_of(
    network: Network, params: PyTree, model_state: PyTree, views, key
) -> tuple[list[Outputs], PyTree]:
    """Outputs in training mode, each view with BatchNorm of its own, as BYOL's code.
    The passes are the step's 0 and 1 (`model_rngs`)."""
    outputs = []
    for i, view in enumerate(views):
        output, model_state = forward(
            network, params, model_state, view, train=True, rngs=model_rngs(key, i)
        )
        outputs.append(output)
    return outputs, model_state


def judged(
    loss_B: jax.Array, outputs: list[Outputs], labels_B: jax.Array
) -> tuple[jax.Array, Metrics]:
    """(the loss of the online probe by the first view; the objective, the probe's
    accuracy, and what shows a collapse). Where there are no classes, no accuracy, and
    a loss of 0."""
    logits_BK = outputs[0].logits_BK
    metrics = {
        "objective": mean(loss_B),
        "projection_std": mean(projection_std(outputs[0].projection_BP)),
    }
    if logits_BK is None:
        return jnp.float32(0), metrics
    right_B = logits_BK.argmax(-1) == labels_B
    metrics["accuracy"] = mean(right_B, labels_B >= 0)
    return cross_entropy_of_labeled(logits_BK, labels_B), metrics


def predict(self, state: TrainState, batch: Batch) -> jax.Array:
    """logits_BK of the online probe."""
    return _apply(self, state, batch, "classify")


def features(self, state: TrainState, batch: Batch) -> jax.Array:
    """features_BD of the online encoder."""
    return _apply(self, state, batch, "features")


def _apply(self, state, batch, method):
    x_BHWC = self.views.plain(batch["image"])
    variables = (state.params, state.model_state)
    return forward(self.network, *variables, x_BHWC, train=False, method=method)[0]
