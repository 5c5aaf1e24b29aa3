"""Autoencoder: an encoder from whose features a decoder can paint the image again.

Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks",
Science 313 (2006). With `noise` it sees a damaged image and paints the whole one:
Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders"
(ICML 2008).

Departures: from Hinton and Salakhutdinov, it is trained as a whole from the start,
without Boltzmann machines layer by layer, and with ReLU, as in the tutorial that
configs/autoencoder_mnist.py follows; from Vincent et al., each pixel is blanked with
probability nu, where they blank a fixed share of them, or each block of pixels is.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from ssl_jax.augment.basic import grey_levels
from ssl_jax.augment.weak_strong import WeakStrong
from ssl_jax.core import (
    Algorithm,
    Batch,
    Metrics,
    PyTree,
    TrainState,
    forward,
    gradient_step,
    init_state,
    mean,
    model_rngs,
)
from ssl_jax.core.losses import binary_cross_entropy_per_pixel
from ssl_jax.core.metrics import EffectiveRank
from ssl_jax.core.ranges import Count, Rate
from ssl_jax.errors import UserError
from ssl_jax.models import Classifier


class Decoder(nn.Module):
    """Dense layers, ReLU between them, to a logit for each of P = H W C grey levels;
    initialised as Keras's Dense: glorot_uniform and 0."""

    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, features_BD: jax.Array, num_pixels: int) -> jax.Array:
        """logits_BP."""
        dense = partial(nn.Dense, kernel_init=nn.initializers.glorot_uniform())
        y = features_BD
        for width in self.hidden:
            y = nn.relu(dense(width)(y))
        return dense(num_pixels)(y)


class Network(nn.Module):
    """Encoder and decoder."""

    encoder: nn.Module
    decoder: nn.Module

    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """logits_BP: the sigmoid is the flattened image, in [0, 1]."""
        num_pixels = math.prod(x_BHWC.shape[1:])
        return self.decoder(self.features(x_BHWC, train=train), num_pixels)

    def features(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD, the code."""
        return self.encoder(x_BHWC, train=train).astype(jnp.float32)


@dataclass(frozen=True, kw_only=True)
class Autoencoder(Algorithm):
    """The input is the weak view, moved and then damaged; the target is the image as
    it is. So a weak view that moves asks for features that undo it.

    Raises:
      UserError: when the loss is traced: the views change the image's size.
    """

    draws_from: ClassVar[str] = "unlabeled"
    views_kind: ClassVar[str] = "weak_strong"
    model: Classifier  # its head is not trained
    tx: optax.GradientTransformation
    views: WeakStrong
    decoder: tuple[Count, ...] = ()  # widths of hidden layers between code and pixels
    noise: Rate = 0.0  # nu: probability that a block of the input is blanked
    block: Count = 1  # its side in pixels; 1 is the paper's

    @property
    def network(self) -> Network:
        return Network(self.model.encoder, Decoder(self.decoder))

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        x_BHWC = self.views.plain(batch["image"])
        return init_state(self.network, self.tx, key, x_BHWC, initial)

    def damaged(self, key: jax.Array, images_BHWC: jax.Array) -> jax.Array:
        """What the encoder sees in training: the weak view with black blocks."""
        key_weak, key_noise = jax.random.split(key)
        x_BHWC = self.views.weak(key_weak, images_BHWC)
        if not self.noise:
            return x_BHWC
        B, H, W, C = x_BHWC.shape
        keys_B = jax.random.split(key_noise, B)
        kept = partial(kept_pixels, shape=(H, W), noise=self.noise, block=self.block)
        black_1HWC = self.views.plain(jnp.zeros((1, H, W, C), jnp.uint8))
        return jnp.where(jax.vmap(kept)(keys_B), x_BHWC, black_1HWC)

    def loss_per_image(
        self, params, model_state, x_BHWC, images_BHWC, *, train, rngs=None
    ):
        """(loss_B: mean over pixels and channels in nats, model_state)."""
        if x_BHWC.shape != images_BHWC.shape:
            raise UserError(
                f"the views turn images of {images_BHWC.shape[1:]} into "
                f"{x_BHWC.shape[1:]}, but an autoencoder paints what it sees: use "
                "augment.side=0."
            )
        logits_BP, model_state = forward(
            self.network, params, model_state, x_BHWC, train=train, rngs=rngs
        )
        # Flat: on a CPU, XLA takes four times as long over [B, 28, 28, 1].
        targets_BP = images_BHWC.reshape(logits_BP.shape).astype(jnp.float32) / 255
        loss_BP = binary_cross_entropy_per_pixel(logits_BP, targets_BP)
        return loss_BP.mean(1), model_state

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        images_BHWC = batch["image"]
        x_BHWC = self.damaged(key, images_BHWC)

        def loss(params):
            loss_B, model_state = self.loss_per_image(
                params,
                state.model_state,
                x_BHWC,
                images_BHWC,
                train=True,
                rngs=model_rngs(key),
            )
            return loss_B.mean(), (model_state, {"reconstruction_loss": mean(loss_B)})

        return gradient_step(loss, self.tx, state)

    def eval_step(self, state: TrainState, batch: Batch, key) -> Metrics:
        """Of plain, undamaged images, so the loss is not the training's where that has
        noise or moves them; and the effective rank of their features."""
        x_BHWC = self.views.plain(batch["image"])
        loss_B, _ = self.loss_per_image(
            state.params, state.model_state, x_BHWC, batch["image"], train=False
        )
        features_BD = self.features(state, batch)
        return {
            "reconstruction_loss": mean(loss_B, batch["mask"]),
            "effective_rank": EffectiveRank.of(features_BD, batch["mask"]),
        }

    def features(self, state: TrainState, batch: Batch) -> jax.Array:
        """features_BD of the plain view."""
        x_BHWC = self.views.plain(batch["image"])
        variables = (state.params, state.model_state)
        return forward(
            self.network, *variables, x_BHWC, train=False, method="features"
        )[0]

    def reconstruct(
        self, state: TrainState, batch: Batch, count: int = 10
    ) -> dict[str, jax.Array]:
        """The first images, what of them is seen where that is damaged, and what is
        painted, uint8: name -> images_BHWC."""
        images_BHWC = jnp.asarray(batch["image"][:count])
        x_BHWC = self.views.plain(images_BHWC)
        shown = {"test image": images_BHWC}
        if self.noise:
            x_BHWC = self.damaged(jax.random.key(0), images_BHWC)
            shown["input"] = grey_levels(
                self.views.plain, images_BHWC.shape[1:], x_BHWC
            )
        logits_BP, _ = forward(
            self.network, state.params, state.model_state, x_BHWC, train=False
        )
        painted_BHWC = 255 * jax.nn.sigmoid(logits_BP).reshape(images_BHWC.shape)
        return shown | {"reconstruction": painted_BHWC.round().astype(jnp.uint8)}


def kept_pixels(
    key: jax.Array, *, shape: tuple[int, int], noise: float, block: int
) -> jax.Array:
    """kept_HW1 of one image, bool: False in blocks of `block` pixels a side, each with
    probability `noise`; those at the right and the lower border may be cut."""
    H, W = shape
    blocks = jax.random.bernoulli(key, 1 - noise, (-(-H // block), -(-W // block)))
    return blocks.repeat(block, 0).repeat(block, 1)[:H, :W, None]
