"""MAE: three quarters of an image's patches are hidden, and painted from the others.

He et al., "Masked Autoencoders Are Scalable Vision Learners", arXiv:2111.06377;
sections are the paper's.

Departures: from the authors' code (facebookresearch/mae, models_mae.py and
util/pos_embed.py at efb2a80), the encoder is models/vit.py as it is: its position
embeddings begin as theirs, and are learned, where theirs stay; its kernels and its
class token begin as timm's, where theirs are Xavier's and of 0.02; and it may have no
class token, or registers beside it. No token decays (`decay_on=kernels`), where theirs
do. Targets are normalised patch by patch unless told otherwise, by their flag
--norm_pix_loss. At least one patch is seen, and one hidden, whatever their share.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from ssl_jax.augment.basic import grey_levels
from ssl_jax.augment.two_crops import TwoCrops
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
from ssl_jax.core.metrics import EffectiveRank
from ssl_jax.core.ranges import Count, Range
from ssl_jax.errors import UserError
from ssl_jax.models import Classifier
from ssl_jax.models.vit import Block


class Masked(NamedTuple):
    """Images of whose L patches V are seen."""

    x_BHWC: jax.Array
    order_BL: jax.Array  # the patches' numbers, row by row; those seen come first
    seen: int  # V


class Decoder(nn.Module):
    """A light Vision Transformer on all patches' tokens, the mask token where one is
    hidden, each with the sines and cosines of its place (section 3)."""

    width: int
    depth: int
    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, tokens_BTD: jax.Array, masked: Masked, grid: tuple[int, int], out: int
    ) -> jax.Array:
        """painted_BLP, P = out numbers for each patch.

        Args:
          tokens_BTD: class token and registers, then the patches that are seen.
          grid: rows and columns of patches, L in all.
        """
        xavier = nn.initializers.xavier_uniform()
        dense = partial(nn.Dense, kernel_init=xavier, dtype=self.dtype)
        norm = partial(nn.LayerNorm, epsilon=1e-6, dtype=self.dtype)
        layers = dict(heads=self.heads, layer_scale=0.0, drop=0.0)

        y_BTD = dense(self.width, name="embed")(tokens_BTD)
        others = tokens_BTD.shape[1] - masked.seen
        others_BPD, seen_BVD = y_BTD[:, :others], y_BTD[:, others:]
        start, shape = nn.initializers.normal(0.02), (1, 1, self.width)
        mask_token_11D = self.param("mask_token", start, shape).astype(self.dtype)
        rank_BL1 = ranks(masked.order_BL)[..., None]
        back_BL1 = jnp.minimum(rank_BL1, masked.seen - 1)
        y_BLD = jnp.where(
            rank_BL1 < masked.seen,
            jnp.take_along_axis(seen_BVD, back_BL1, axis=1),
            mask_token_11D,
        )
        places_LD = places(grid, self.width).reshape(-1, self.width)
        y_BLD += places_LD.astype(self.dtype)[None]
        y_BTD = jnp.concatenate([others_BPD, y_BLD], axis=1)
        for i in range(self.depth):
            block = Block(**layers, dense=dense, norm=norm, name=f"Block_{i}")
            y_BTD = block(y_BTD, train=False)  # it drops nothing
        y_BTD = norm(name="norm")(y_BTD)
        return dense(out, name="pixels")(y_BTD)[:, others:].astype(jnp.float32)


class Network(nn.Module):
    """Encoder of the patches that are seen, and decoder."""

    encoder: nn.Module
    decoder: nn.Module

    def __call__(self, masked: Masked, *, train: bool) -> jax.Array:
        """painted_BLP: patch by patch, its pixels row by row and their channels."""
        _, H, W, C = masked.x_BHWC.shape
        kept_BV, side = masked.order_BL[:, : masked.seen], self.encoder.patch
        tokens_BTD = self.encoder(masked.x_BHWC, train=train, kept_BV=kept_BV)
        grid = (H // side, W // side)
        return self.decoder(tokens_BTD, masked, grid, side * side * C)

    def features(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD of whole images."""
        return self.encoder(x_BHWC, train=train).astype(jnp.float32)


@dataclass(frozen=True, kw_only=True)
class MAE(Algorithm):
    """Trains on the first of the two views; the paper's is a crop and a mirror, and
    nothing that changes colours (table 1e). Its state has no `extra`.

    Raises:
      UserError: heads that do not divide the decoder's width, or a width that sines and
        cosines do not fill; when the loss is traced: images of a single patch.
    """

    draws_from: ClassVar[str] = "unlabeled"
    views_kind: ClassVar[str] = "two_crops"
    hides_patches: ClassVar[bool] = True
    small: ClassVar[dict] = {
        "decoder_width": 16,
        "decoder_depth": 1,
        "decoder_heads": 2,
    }
    model: Classifier  # its head is not trained
    tx: optax.GradientTransformation
    views: TwoCrops
    # of the patches, that are hidden
    mask_ratio: Annotated[float, Range(0, 1, without="low and high")] = 0.75
    normalized: bool = True  # targets: each patch with mean 0 and variance 1
    decoder_width: Count = 512
    decoder_depth: Count = 8  # blocks
    decoder_heads: Count = 16

    def __post_init__(self):
        if self.decoder_width % self.decoder_heads:
            raise UserError(
                f"decoder_heads={self.decoder_heads} does not divide decoder_width="
                f"{self.decoder_width}: each head has its part of it; use a divisor."
            )
        _check_width("decoder_width", self.decoder_width)

    @property
    def network(self) -> Network:
        encoder = self.model.encoder
        form = (self.decoder_width, self.decoder_depth, self.decoder_heads)
        return Network(encoder, Decoder(*form, encoder.dtype))

    def init(
        self, key: jax.Array, batch: Batch, initial: PyTree | None = None
    ) -> TrainState:
        key_params, key_mask = jax.random.split(key)
        masked = self.masked(key_mask, self.views.plain(batch["image"]))
        state = init_state(self.network, self.tx, key_params, masked, initial)
        if "encoder" in (initial or {}).get("params", {}):
            return state
        encoder = state.params["encoder"]
        h, w, D = encoder["position"].shape
        _check_width("model.width", D)
        position_hwD = jnp.asarray(places((h, w), D))
        encoder = encoder | {"position": position_hwD}
        return state.replace(params=state.params | {"encoder": encoder})

    def masked(self, key: jax.Array, x_BHWC: jax.Array) -> Masked:
        """The images, of whose patches each hides others: those that come last when
        each patch draws a number (section 3, "simple implementation")."""
        B, H, W, _ = x_BHWC.shape
        L = (H // self.model.encoder.patch) * (W // self.model.encoder.patch)
        if L < 2:
            raise UserError(
                f"{H}x{W} images have no patch to hide beside one of model.patch="
                f"{self.model.encoder.patch} pixels a side; use a smaller model.patch."
            )
        keys_B = jax.random.split(key, B)
        drawn_BL = jax.vmap(lambda key: jax.random.uniform(key, (L,)))(keys_B)
        seen = min(max(int(L * (1 - self.mask_ratio)), 1), L - 1)
        return Masked(x_BHWC, drawn_BL.argsort(axis=1), seen)

    def targets(self, x_BHWC: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(targets_BLP, mean_BL1, std_BL1 of their pixels), by which they are
        normalised; 0 and 1 where they are not."""
        pixels_BLP = patches(x_BHWC, self.model.encoder.patch)
        if not self.normalized:
            return pixels_BLP, jnp.float32(0), jnp.float32(1)
        mean_BL1 = pixels_BLP.mean(-1, keepdims=True)
        # As the code has it: of a sample, and 1e-6 under the root.
        std_BL1 = jnp.sqrt(pixels_BLP.var(-1, keepdims=True, ddof=1) + 1e-6)
        return (pixels_BLP - mean_BL1) / std_BL1, mean_BL1, std_BL1

    def loss_per_image(self, params, model_state, masked, *, train, rngs=None):
        """(loss_B: mean over the pixels of the patches that are hidden, model_state).
        As many are in each image, so that its mean over a batch is theirs."""
        painted_BLP, model_state = forward(
            self.network, params, model_state, masked, train=train, rngs=rngs
        )
        targets_BLP, _, _ = self.targets(masked.x_BHWC)
        square_BL = ((painted_BLP - targets_BLP) ** 2).mean(-1)
        hidden_BL = ranks(masked.order_BL) >= masked.seen
        loss_B = (square_BL * hidden_BL).sum(1) / hidden_BL.sum(1)
        return loss_B, model_state

    def train_step(
        self, state: TrainState, batch: Batch, key
    ) -> tuple[TrainState, Metrics]:
        key_view, key_mask = jax.random.split(key)
        masked = self.masked(key_mask, self.views.first(key_view, batch["image"]))

        def loss(params):
            loss_B, model_state = self.loss_per_image(
                *(params, state.model_state, masked), train=True, rngs=model_rngs(key)
            )
            return loss_B.mean(), (model_state, {"reconstruction_loss": mean(loss_B)})

        return gradient_step(loss, self.tx, state)

    def eval_step(self, state: TrainState, batch: Batch, key) -> Metrics:
        """The loss of plain held-out images, and the effective rank of their
        features."""
        masked = self.masked(key, self.views.plain(batch["image"]))
        loss_B, _ = self.loss_per_image(
            state.params, state.model_state, masked, train=False
        )
        features_BD = self.features(state, batch)
        return {
            "reconstruction_loss": mean(loss_B, batch["mask"]),
            "effective_rank": EffectiveRank.of(features_BD, batch["mask"]),
        }

    def features(self, state: TrainState, batch: Batch) -> jax.Array:
        """features_BD of the plain view, whole."""
        x_BHWC = self.views.plain(batch["image"])
        variables = (state.params, state.model_state)
        return forward(
            self.network, *variables, x_BHWC, train=False, method="features"
        )[0]

    def reconstruct(
        self, state: TrainState, batch: Batch, count: int = 10
    ) -> dict[str, jax.Array]:
        """The first images, what of them is seen, and the same with what is painted
        where they are hidden, uint8: name -> images_BHWC. Normalised patches get the
        mean and the contrast that the hidden ones have."""
        images_BHWC = jnp.asarray(batch["image"][:count])
        x_BHWC = self.views.plain(images_BHWC)
        masked, side = self.masked(jax.random.key(0), x_BHWC), self.model.encoder.patch
        variables = (state.params, state.model_state)
        painted_BLP, _ = forward(self.network, *variables, masked, train=False)
        _, mean_BL1, std_BL1 = self.targets(x_BHWC)
        painted_BHWC = whole(painted_BLP * std_BL1 + mean_BL1, side, x_BHWC.shape)
        hidden_BL1 = (ranks(masked.order_BL) >= masked.seen)[..., None]
        hidden_BLP = jnp.broadcast_to(hidden_BL1, painted_BLP.shape)
        hidden_BHWC = whole(hidden_BLP, side, x_BHWC.shape)
        grey = partial(grey_levels, self.views.plain, images_BHWC.shape[1:])
        shown_BHWC = grey(x_BHWC)
        return {
            "test image": shown_BHWC,
            "input": jnp.where(hidden_BHWC, jnp.uint8(128), shown_BHWC),
            "reconstruction": jnp.where(hidden_BHWC, grey(painted_BHWC), shown_BHWC),
        }


def _check_width(field, width):
    if width % 4:
        raise UserError(
            f"{field}={width} must be a multiple of 4: sines and cosines of rows and "
            "columns have a quarter each."
        )


def ranks(order_BL: jax.Array) -> jax.Array:
    """rank_BL, where in the order each number stands: its inverse, row by row."""
    return order_BL.argsort(axis=1)


def places(grid: tuple[int, int], width: int) -> np.ndarray:
    """Position embeddings [rows, columns, width] that are not learned: sines and
    cosines of the column, then of the row, at wavelengths from 2 pi to 10,000 times
    that, as in util/pos_embed.py.

    Args:
      width: a multiple of 4.
    """
    rates_F = 10_000.0 ** (-np.arange(width // 4) / (width // 4))
    angles_hwF = [
        np.broadcast_to(at[..., None] * rates_F, (*grid, len(rates_F)))
        for at in np.meshgrid(*map(np.arange, grid[::-1]))
    ]
    waves = [wave(angles) for angles in angles_hwF for wave in (np.sin, np.cos)]
    return np.concatenate(waves, axis=-1).astype(np.float32)


def patches(x_BHWC: jax.Array, side: int) -> jax.Array:
    """pixels_BLP, P = side * side * C, row by row, and the pixels of each alike."""
    B, H, W, C = x_BHWC.shape
    h, w = H // side, W // side
    x = x_BHWC.reshape(B, h, side, w, side, C).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(B, h * w, side * side * C)


def whole(pixels_BLP: jax.Array, side: int, shape: tuple[int, ...]) -> jax.Array:
    """Images of this shape; the inverse of `patches`."""
    B, H, W, C = shape
    x = pixels_BLP.reshape(B, H // side, W // side, side, side, C)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(shape)
