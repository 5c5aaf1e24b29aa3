"""Vision Transformer as timm builds it.

Dosovitskiy et al., arXiv:2010.11929, in the sizes of DeiT (arXiv:2012.12877, table 1)
and with what came later as options: register tokens (arXiv:2309.16588), a scale of each
branch (arXiv:2103.17239) and stochastic depth. LayerNorm is before each branch, with
epsilon 1e-6; GELU is exact.

Departures from huggingface/pytorch-image-models (timm 1.0.31, vision_transformer.py):
biases of the patches start at 0, not uniform, and heads by Glorot's (models.build), not
at 0.02; position embeddings have the axes of
their grid, and are resampled wherever images have another, as by its dynamic_img_size.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Count, Rate, Weight, Whole
from ssl_jax.errors import UserError
from ssl_jax.models.shared.patches import Patches
from ssl_jax.models.shared.stochastic_depth import StochasticDepth, rising

_SIZES = {  # name: width, blocks, heads
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
}
_POOLS = ("token", "mean")
# Not cut: timm's trunc_normal_(std=.02) cuts at 2, which is 100 deviations.
_normal = nn.initializers.normal(0.02)
# U(-1 / sqrt(fan in), 1 / sqrt(fan in)), a PyTorch convolution's
_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Attention(nn.Module):
    """Every token asks all, in each of the heads apart."""

    heads: int
    dense: Callable

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        B, T, D = x_BTD.shape
        qkv = self.dense(3 * D, name="qkv")(x_BTD)
        q, k, v = jnp.moveaxis(qkv.reshape(B, T, 3, self.heads, -1), 2, 0)
        logits = jnp.einsum("bthd,bshd->bhts", q, k) / jnp.sqrt(q.shape[-1])
        weights = jax.nn.softmax(logits.astype(jnp.float32)).astype(v.dtype)
        y_BTD = jnp.einsum("bhts,bshd->bthd", weights, v).reshape(B, T, D)
        return self.dense(D, name="out")(y_BTD)


class Mlp(nn.Module):
    """Each token by itself, 4 times as wide in between."""

    dense: Callable

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        D = x_BTD.shape[-1]
        y = nn.gelu(self.dense(4 * D)(x_BTD), approximate=False)
        return self.dense(D)(y)


class Block(nn.Module):
    """Attention and MLP, each normalised before and added to its input."""

    heads: int
    layer_scale: float
    drop: float  # of stochastic depth
    dense: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x_BTD: jax.Array, *, train: bool) -> jax.Array:
        for part, layer in (
            ("attention", Attention(self.heads, self.dense, name="attention")),
            ("mlp", Mlp(self.dense, name="mlp")),
        ):
            y = layer(self.norm(name=f"{part}_norm")(x_BTD))
            if self.layer_scale:
                start = nn.initializers.constant(self.layer_scale)
                scale_D = self.param(f"{part}_scale", start, y.shape[-1:])
                y *= scale_D.astype(y.dtype)[None, None]
            x_BTD += StochasticDepth(self.drop)(y, train=train)
        return x_BTD


class Encoder(nn.Module):
    """ViT-Ti/16: 5,717,416 parameters with a 1,000-way head at 224 px.

    Raises:
      UserError: unknown size or pool; heads that do not divide the width; a pool that
        takes a class token where there is none; images that are no whole number of
        patches.
    """

    takes: ClassVar[str] = "images"
    hides_patches: ClassVar[bool] = True
    small: ClassVar[dict] = dict(width=16, depth=2, heads=2, patch=4)
    size: str = "tiny"  # or "small", "base": width, depth and heads
    width: Whole = 0  # of a token; 0: as the size has it
    depth: Whole = 0  # blocks; 0: as the size has it
    heads: Whole = 0  # of attention; 0: as the size has it
    patch: Count = 16  # pixels a side of what becomes a token
    pool: str = "token"  # features are the class token; or "mean": of all patches
    class_token: bool = True
    registers: Whole = 0  # tokens that belong to no patch, beside the class token
    # whether those, and the class token, have position embeddings; DINOv2's with
    # registers have none
    prefix_position: bool = True
    layer_scale: Weight = (
        0.0  # each branch's scale at the start, 1e-5 in DINOv2; 0: none
    )
    stochastic_depth: Rate = 0.0  # of the last block; it rises from 0 in the first
    dtype: jnp.dtype = jnp.float32  # computes in this; parameters stay float32

    def __post_init__(self):
        for field, known in (("size", _SIZES), ("pool", _POOLS)):
            if getattr(self, field) not in known:
                raise UserError(
                    f"model.{field}={getattr(self, field)!r} is unknown to vit; "
                    f"choose from {sorted(known)}."
                )
        width, _, heads = self.form
        if width % heads:
            raise UserError(
                f"model.heads={heads} does not divide model.width={width}: each head "
                "has its part of it; use a divisor."
            )
        if self.pool == "token" and not self.class_token:
            raise UserError(
                "model.pool='token' takes the class token, which "
                "model.class_token=False leaves out; use model.pool=mean."
            )
        super().__post_init__()

    @property
    def form(self) -> tuple[int, int, int]:
        """(width, blocks, heads)."""
        given = (self.width, self.depth, self.heads)
        return tuple(g or s for g, s in zip(given, _SIZES[self.size], strict=True))

    @nn.compact
    def __call__(
        self, x_BHWC: jax.Array, *, train: bool, kept_BV: jax.Array | None = None
    ) -> jax.Array:
        """features_BD, D = width.

        Args:
          kept_BV: numbers of patches, row by row: the others are hidden, and it gives
            tokens_BTD, normalised: class token and registers, then the V patches.
        """
        width, depth, heads = self.form
        dense = partial(nn.Dense, kernel_init=_normal, dtype=self.dtype)
        norm = partial(nn.LayerNorm, epsilon=1e-6, dtype=self.dtype)
        layers = dict(heads=heads, layer_scale=self.layer_scale, dense=dense, norm=norm)

        x_BTD = self._tokens(self._patches(x_BHWC, width), kept_BV)
        for i, drop in enumerate(rising(self.stochastic_depth, depth)):
            x_BTD = Block(drop=drop, **layers, name=f"Block_{i}")(x_BTD, train=train)
        norm = norm(name="norm")
        if kept_BV is not None:
            return norm(x_BTD)
        if self.pool == "token":
            return norm(x_BTD)[:, 0]
        return norm(x_BTD[:, self.class_token + self.registers :].mean(axis=1))

    def _patches(self, x_BHWC, width):
        """[B, rows, columns, width], with their position embeddings."""
        _, H, W, _ = x_BHWC.shape
        if H % self.patch or W % self.patch:
            raise UserError(
                f"{H}x{W} images are no whole number of patches of model.patch="
                f"{self.patch} pixels a side; use a model.patch that divides both, or "
                "another data.image_size (or side of crops)."
            )
        x_BhwD = Patches(width, self.patch, _uniform, self.dtype, name="patches")(
            x_BHWC
        )
        grid = x_BhwD.shape[1:]
        if self.has_variable("params", "position"):  # of another grid, perhaps
            position_hwD = resampled(self.get_variable("params", "position"), grid[:2])
        else:
            position_hwD = self.param("position", _normal, grid)
        return x_BhwD + position_hwD.astype(self.dtype)[None]

    def _tokens(self, x_BhwD, kept_BV):
        """x_BTD: class token, registers, patches."""
        B, h, w, D = x_BhwD.shape
        x_BTD = x_BhwD.reshape(B, h * w, D)
        if kept_BV is not None:
            x_BTD = jnp.take_along_axis(x_BTD, kept_BV[..., None], axis=1)
        almost_0 = nn.initializers.normal(1e-6)
        prefix = []
        if self.class_token:
            prefix.append(self.param("class_token", almost_0, (1, D)))
        if self.registers:
            prefix.append(self.param("registers", almost_0, (self.registers, D)))
        if not prefix:
            return x_BTD
        prefix_PD = jnp.concatenate(prefix)
        if self.prefix_position:
            prefix_PD += self.param("prefix_position", _normal, prefix_PD.shape)
        prefix_BPD = jnp.broadcast_to(
            prefix_PD.astype(self.dtype), (B, *prefix_PD.shape)
        )
        return jnp.concatenate([prefix_BPD, x_BTD], axis=1)


def resampled(position_hwD: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Position embeddings of another grid (rows, columns): bicubic, with a = -1/2 and
    antialiasing, as timm's `resample_abs_pos_embed`."""
    if position_hwD.shape[:2] == tuple(grid):
        return position_hwD
    shape = (*grid, position_hwD.shape[-1])
    return jax.image.resize(position_hwD, shape, "cubic", antialias=True)
