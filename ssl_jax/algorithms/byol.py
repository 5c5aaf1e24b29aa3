"""BYOL: an online network predicts what its own moving average says of another view.

Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning",
arXiv:2006.07733; sections and equation numbers are the paper's.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from ssl_jax.augment.two_crops import TwoCrops
from ssl_jax.core import (
    Batch,
    Metrics,
    PyTree,
    TrainState,
    ema,
    forward,
    gradient_step,
    init_state,
    mean,
)
from ssl_jax.core.losses import cosine_similarity_per_example, cross_entropy_of_labeled
from ssl_jax.core.metrics import EffectiveRank, projection_std
from ssl_jax.models import Classifier


class MLP(nn.Module):
    """Linear, BatchNorm, ReLU, Linear: projector and predictor (section 3.3)."""

    hidden: int
    out: int

    @nn.compact
    def __call__(self, x_BD: jax.Array, *, train: bool) -> jax.Array:
        y = nn.Dense(self.hidden)(x_BD)
        y = nn.BatchNorm(use_running_average=not train, momentum=0.9)(y)
        return nn.Dense(self.out)(nn.relu(y))


class Outputs(NamedTuple):
    """Of one view."""

    projection_BP: jax.Array  # z
    prediction_BP: jax.Array  # q(z)
    logits_BK: jax.Array  # of the online probe


class Network(nn.Module):
    """Encoder f, projector g, predictor q, and a linear head, the online probe, that
    sends no gradient back to the encoder."""

    encoder: nn.Module
    projector: nn.Module
    predictor: nn.Module
    num_classes: int

    def setup(self):
        self.head = nn.Dense(self.num_classes)

    def __call__(self, images_BHWC: jax.Array, *, train: bool) -> Outputs:
        y_BD = self.features(images_BHWC, train=train)
        z_BP = self.projector(y_BD, train=train)
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


@dataclass(frozen=True, kw_only=True)
class BYOL:
    """The target is in extra["target"]: parameters only, because it runs on the
    BatchNorm statistics of its batch, as in the paper's code."""

    draws_from: ClassVar[str] = "unlabeled"
    model: Classifier
    tx: optax.GradientTransformation
    views: TwoCrops
    total_steps: int  # K
    hidden: int = 4096  # of projector and predictor
    projection: int = 256  # P
    tau_base: float = 0.996

    @property
    def network(self) -> Network:
        return Network(
            encoder=self.model.encoder,
            projector=MLP(self.hidden, self.projection),
            predictor=MLP(self.hidden, self.projection),
            num_classes=self.model.num_classes,
        )

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        x_BHWC = self.views.plain(batch["image"])
        state = init_state(self.network, self.tx, key, x_BHWC, initial)
        return state.replace(extra={"target": _target(state.params)})

    def tau(self, step: jax.Array) -> jax.Array:
        """The target's decay, which rises from tau_base to 1 (section 3.2)."""
        arc = jnp.pi * step / self.total_steps
        return 1 - (1 - self.tau_base) * (jnp.cos(arc) + 1) / 2

    def objective(self, params, model_state, extra, views):
        """(loss_B of eq. 2 in both orders, outputs of both views, model_state)."""
        outputs, moved = outputs_of(self.network, params, model_state, views)
        z_first, z_second = (
            forward(
                self.network,
                jax.lax.stop_gradient(extra["target"]),
                model_state,
                view,
                train=True,
                method="project",
            )[0]
            for view in views
        )
        q_first, q_second = (output.prediction_BP for output in outputs)
        loss_B = (2 - 2 * cosine_similarity_per_example(q_first, z_second)) + (
            2 - 2 * cosine_similarity_per_example(q_second, z_first)
        )
        return loss_B, outputs, moved

    def loss(self, params, model_state, extra, views, labels_B):
        """The objective, the online probe's loss, and what shows a collapse."""
        loss_B, outputs, model_state = self.objective(params, model_state, extra, views)
        logits_BK = outputs[0].logits_BK
        metrics = {
            "objective": mean(loss_B),
            "accuracy": mean(logits_BK.argmax(-1) == labels_B, labels_B >= 0),
            "projection_std": mean(projection_std(outputs[0].projection_BP)),
        }
        probe_loss = cross_entropy_of_labeled(logits_BK, labels_B)
        return loss_B.mean() + probe_loss, (model_state, metrics)

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        views, before = two_views(self.views, batch, key), state
        state, metrics = gradient_step(
            lambda params: self.loss(
                params, state.model_state, state.extra, views, batch["label"]
            ),
            self.tx,
            state,
        )
        tau = self.tau(before.step)
        target = ema(before.extra["target"], _target(state.params), tau)  # eq. 1
        return state.replace(extra={"target": target}), metrics

    def eval_step(self, state: TrainState, batch: Batch, key) -> Metrics:
        """The objective on held-out images, on their own batch's statistics; and the
        effective rank of their features."""
        views = two_views(self.views, batch, key)
        loss_B, _, _ = self.objective(
            state.params, state.model_state, state.extra, views
        )
        features_BD = self.features(state, batch)
        return {
            "objective": mean(loss_B, batch["mask"]),
            "effective_rank": EffectiveRank.of(features_BD, batch["mask"]),
        }

    def predict(self, state: TrainState, batch: Batch) -> jax.Array:
        """logits_BK of the online probe."""
        return self._apply(state, batch, "classify")

    def features(self, state: TrainState, batch: Batch) -> jax.Array:
        """features_BD of the online encoder."""
        return self._apply(state, batch, "features")

    def _apply(self, state, batch, method):
        x_BHWC = self.views.plain(batch["image"])
        variables = (state.params, state.model_state)
        return forward(self.network, *variables, x_BHWC, train=False, method=method)[0]


def two_views(views: TwoCrops, batch: Batch, key) -> tuple[jax.Array, jax.Array]:
    """v = t(x) and v' = t'(x) of the batch's images."""
    key_first, key_second = jax.random.split(key)
    images = batch["image"]
    return views.first(key_first, images), views.second(key_second, images)


def outputs_of(
    network: Network, params: PyTree, model_state: PyTree, views
) -> tuple[list[Outputs], PyTree]:
    """Outputs in training mode, each view with BatchNorm of its own, as the code."""
    outputs = []
    for view in views:
        output, model_state = forward(network, params, model_state, view, train=True)
        outputs.append(output)
    return outputs, model_state


def _target(params):
    """What the target has of the network: encoder and projector."""
    return {part: params[part] for part in ("encoder", "projector")}
