"""ConvNeXt as timm builds it, atto to tiny.

Liu et al., arXiv:2201.03545; the sizes below tiny are timm's own
(huggingface/pytorch-image-models, timm 1.0.31, convnext.py), which the paper's sequel
arXiv:2301.00808 took over. GELU is exact, LayerNorm's epsilon 1e-6.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Count, Rate, Weight
from ssl_jax.errors import UserError
from ssl_jax.models.shared.depthwise import Depthwise
from ssl_jax.models.shared.patches import Patches
from ssl_jax.models.shared.stochastic_depth import StochasticDepth, rising

_SIZES = {  # name: blocks and channels of each stage
    "atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
    "femto": ((2, 2, 6, 2), (48, 96, 192, 384)),
    "pico": ((2, 2, 6, 2), (64, 128, 256, 512)),
    "nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
}
# Not cut: timm's trunc_normal_(std=.02) cuts at 2, which is 100 deviations.
_normal = nn.initializers.normal(0.02)


class Block(nn.Module):
    """A depthwise convolution, then each pixel by itself, 4 times as wide in between;
    added to the input."""

    kernel: int
    layer_scale: float
    drop: float  # of stochastic depth
    dense: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        C = x_BHWC.shape[-1]
        size, pad = self.kernel, self.kernel // 2
        y = Depthwise(size, 1, (pad, pad), _normal, use_bias=True)(x_BHWC)
        y = self.dense(4 * C)(self.norm()(y))
        y = self.dense(C)(nn.gelu(y, approximate=False))
        if self.layer_scale:
            start = nn.initializers.constant(self.layer_scale)
            scale_C = self.param("scale", start, (C,))
            y *= scale_C.astype(y.dtype)[None, None, None]
        return x_BHWC + StochasticDepth(self.drop)(y, train=train)


class Encoder(nn.Module):
    """ConvNeXt-atto: 3,695,520 parameters with a 1,000-way head.

    Raises:
      UserError: unknown size, stages of which there are not as many depths as widths,
        an even kernel, or images too small to be halved so often.
    """

    takes: ClassVar[str] = "images"
    small: ClassVar[dict] = dict(depths=(1, 1), widths=(8, 16), patch=2, kernel=3)
    size: str = "atto"  # or "femto", "pico", "nano", "tiny": depths and widths
    depths: tuple[Count, ...] = ()  # blocks of each stage; (): as the size has them
    widths: tuple[Count, ...] = ()  # channels of each stage; (): as the size has them
    patch: Count = (
        4  # pixels a side that the stem makes one of; 1 or 2 for small images
    )
    kernel: Count = 7  # side of the depthwise convolutions'
    layer_scale: Weight = 1e-6  # each branch's scale at the start; 0: none
    stochastic_depth: Rate = 0.0  # of the last block; it rises from 0 in the first
    dtype: jnp.dtype = jnp.float32  # computes in this; parameters stay float32

    def __post_init__(self):
        if self.size not in _SIZES:
            raise UserError(
                f"model.size={self.size!r} is unknown to convnext; choose from "
                f"{sorted(_SIZES)}."
            )
        depths, widths = self.form
        if len(depths) != len(widths):
            raise UserError(
                f"model.depths={depths} and model.widths={widths} are of "
                f"{len(depths)} and {len(widths)} stages; give both as many."
            )
        if self.kernel % 2 == 0:
            raise UserError(
                f"model.kernel={self.kernel} has no middle; use an odd number, as 7."
            )
        super().__post_init__()

    @property
    def form(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(blocks, channels) of each stage."""
        depths, widths = _SIZES[self.size]
        return tuple(self.depths) or depths, tuple(self.widths) or widths

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD, D the last stage's channels."""
        depths, widths = self.form
        _check_side(x_BHWC.shape[1:3], self.patch * 2 ** (len(depths) - 1))
        norm = partial(nn.LayerNorm, epsilon=1e-6, dtype=self.dtype)
        dense = partial(nn.Dense, kernel_init=_normal, dtype=self.dtype)
        patches = partial(Patches, kernel_init=_normal, dtype=self.dtype)
        layers = dict(kernel=self.kernel, layer_scale=self.layer_scale)
        layers |= dict(dense=dense, norm=norm)
        drops = iter(rising(self.stochastic_depth, sum(depths)))

        y = norm(name="stem_norm")(patches(widths[0], self.patch, name="stem")(x_BHWC))
        for stage, (blocks, width) in enumerate(zip(depths, widths, strict=True)):
            if stage:
                y = norm(name=f"halved_norm_{stage}")(y)
                y = patches(width, 2, name=f"halved_{stage}")(y)
            for _ in range(blocks):
                y = Block(drop=next(drops), **layers)(y, train=train)
        return norm(name="norm")(y.mean(axis=(1, 2)))


def _check_side(size, least):
    if min(size) < least:
        raise UserError(
            f"{size[0]}x{size[1]} images are too small for model.name='convnext' as it "
            f"is: it makes one pixel of {least} a side; use a larger data.image_size, "
            "or a smaller model.patch."
        )
