"""What methods that embed views of an image alike are made of: BYOL, SimSiam, SimCLR.

They draw two views of each image, or more, and ask that what one network makes of them
be alike, each with something that keeps it from making the same of all images. An
algorithm with the fields model and views and the property `network` takes the two
functions at the end as its methods: `predict = joint_embedding.predict`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.augment.multi_crop import MultiCrop
from ssl_jax.augment.two_crops import TwoCrops
from ssl_jax.core import (
    Batch,
    Metrics,
    PyTree,
    TrainState,
    concat_views,
    forward,
    gathered,
    mean,
    model_rngs,
    split_views,
)
from ssl_jax.core.losses import cross_entropy_of_labeled, unit_length
from ssl_jax.core.metrics import EffectiveRank, projection_std
from ssl_jax.models.shared.batch_norm import BatchNorm

FAR = -1e9  # a logit whose exp is 0: finite, so that 0 times it is 0


class MLP(nn.Module):
    """Linear, BatchNorm, ReLU, Linear: projector and predictor (BYOL, section 3.3)."""

    hidden: int
    out: int
    bias: bool = True  # of the last layer
    layers: int = 2  # linear ones
    norm: bool = True  # whether there is BatchNorm

    @nn.compact
    def __call__(self, x_BD: jax.Array, *, train: bool) -> jax.Array:
        y = x_BD
        for _ in range(self.layers - 1):
            y = nn.Dense(self.hidden)(y)
            if self.norm:
                y = BatchNorm(use_running_average=not train, momentum=0.9)(y)
            y = nn.relu(y)
        return nn.Dense(self.out, use_bias=self.bias)(y)


class NormalisedMLP(nn.Module):
    """An MLP with BatchNorm on the output as well, which is not shifted."""

    hidden: int
    out: int
    scale: bool = False  # whether it is scaled

    @nn.compact
    def __call__(self, x_BD: jax.Array, *, train: bool) -> jax.Array:
        y = MLP(self.hidden, self.out, bias=False)(x_BD, train=train)
        return BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            use_scale=self.scale,
            use_bias=False,
        )(y)


class Outputs(NamedTuple):
    """Of one view."""

    projection_BP: jax.Array  # z
    prediction_BP: jax.Array | None  # q(z), where there is a predictor
    logits_BK: jax.Array | None  # of the online probe, where there are classes


class Network(nn.Module):
    """Encoder f, projector g, predictor q if any, and a linear head, the online probe,
    that sends no gradient back to the encoder; no head where there are no classes."""

    encoder: nn.Module
    projector: nn.Module
    num_classes: int
    predictor: nn.Module | None = None

    def setup(self):
        if self.num_classes:
            self.head = nn.Dense(self.num_classes)

    def __call__(self, images_BHWC: jax.Array, *, train: bool) -> Outputs:
        y_BD = self.features(images_BHWC, train=train)
        z_BP = self.projector(y_BD, train=train)
        q_BP = logits_BK = None
        if self.num_classes:
            logits_BK = self.head(jax.lax.stop_gradient(y_BD))
        if self.predictor is not None:
            q_BP = self.predictor(z_BP, train=train)
        return Outputs(z_BP, q_BP, logits_BK)

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


def crops_of(views: MultiCrop, batch: Batch, key, small: int) -> list[jax.Array]:
    """Two large crops of the batch's images, and so many small ones of each."""
    keys, images = jax.random.split(key, 2 + small), batch["image"]
    large = [views.first(keys[0], images), views.second(keys[1], images)]
    return [*large, *(views.small(one, images) for one in keys[2:])]


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


def outputs_of_crops(
    network: Network, params: PyTree, model_state: PyTree, crops, key
) -> tuple[list[Outputs], list[Outputs], PyTree]:
    """Outputs of the two large crops, each with BatchNorm of its own, and of the small
    ones, which are all one pass: the step's passes 0, 1 and 2."""
    large, small = crops[:2], crops[2:]
    outputs, model_state = outputs_of(network, params, model_state, large, key)
    if not small:
        return outputs, [], model_state
    sizes = [len(crop) for crop in small]
    joined, model_state = forward(
        *(network, params, model_state, concat_views(*small)),
        train=True,
        rngs=model_rngs(key, 2),
        sizes=sizes,
    )
    apart = [
        [None] * len(small) if part is None else split_views(part, *sizes)
        for part in joined
    ]
    return outputs, [Outputs(*parts) for parts in zip(*apart, strict=True)], model_state


def target_of(params: PyTree) -> PyTree:
    """What a moving average of the network is of: encoder and projector."""
    return {part: params[part] for part in ("encoder", "projector")}


def targets_of(
    network: Network, target: PyTree, model_state: PyTree, views, key, *, after: int
) -> list[jax.Array]:
    """The target's projections of the views, without gradient. It has parameters only,
    and runs on the BatchNorm statistics of its batch, as in the papers' codes. The
    passes are the step's from number `after` on."""
    return [
        forward(
            network,
            jax.lax.stop_gradient(target),
            model_state,
            view,
            train=True,
            rngs=model_rngs(key, i),
            method="project",
        )[0]
        for i, view in enumerate(views, start=after)
    ]


def to_one(base: float, step: jax.Array, total_steps: int) -> jax.Array:
    """A target's decay, which rises from `base` to 1 by half a cosine (BYOL, 3.2)."""
    arc = jnp.pi * step / total_steps
    return 1 - (1 - base) * (jnp.cos(arc) + 1) / 2


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


def log_shares(
    first_BP: jax.Array,
    second_BP: jax.Array,
    temperature: float,
    mask_B: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """log exp(s_ij / T) / sum_{k != i} exp(s_ik / T) of cosine similarities s, where
    i is a view of the first kind, and of the second: each [B, 2B], by the B views of
    the other kind and then the B of its own, where an image's own view counts nothing.
    All devices' images are compared.

    Args:
      mask_B: False where a row is padding, which nothing is compared with.
    """
    first_BP, second_BP = unit_length(first_BP), unit_length(second_BP)
    all_first_BP, all_second_BP = gathered(first_BP), gathered(second_BP)
    itself_BB = jnp.eye(len(first_BP), dtype=bool)
    none_BB = jnp.zeros_like(itself_BB)
    if mask_B is not None:
        none_BB = none_BB | ~mask_B[None]

    def shares(z_BP, other_BP, own_BP):
        logits_BB, own_BB = (
            jnp.matmul(z_BP, to_BP.T, precision=jax.lax.Precision.HIGHEST) / temperature
            for to_BP in (other_BP, own_BP)
        )
        logits_BB = jnp.where(none_BB, FAR, logits_BB)
        own_BB = jnp.where(none_BB | itself_BB, FAR, own_BB)
        return jax.nn.log_softmax(jnp.concatenate([logits_BB, own_BB], axis=1))

    return (
        shares(first_BP, all_second_BP, all_first_BP),
        shares(second_BP, all_first_BP, all_second_BP),
    )


def centred(z_BP: jax.Array, mask_B: jax.Array) -> jax.Array:
    """z less its mean over the rows where `mask_B`; 0 in the others."""
    mask_B1 = mask_B[:, None].astype(jnp.float32)
    mean_1P = (z_BP * mask_B1).sum(0, keepdims=True) / mask_B1.sum()
    return (z_BP - mean_1P) * mask_B1


def held_out(loss_B: jax.Array, features_BD: jax.Array, mask_B: jax.Array) -> Metrics:
    """Of held-out images, where `mask_B`: the objective, and the effective rank of
    their features.

    Args:
      loss_B: or one number, of a loss that is of the batch as a whole.
    """
    return {
        "objective": mean(jnp.broadcast_to(loss_B, mask_B.shape), mask_B),
        "effective_rank": EffectiveRank.of(features_BD, mask_B),
    }


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
