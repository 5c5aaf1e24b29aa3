"""EfficientNet-B0 as timm builds it, and its wider and deeper kin.

Tan and Le, arXiv:1905.11946: inverted residuals with squeeze-and-excitation, SiLU. As
in huggingface/pytorch-image-models (timm 1.0.31, efficientnet.py, `efficientnet_b0`)
convolutions pad by half their kernel on both sides, and BatchNorm has epsilon 1e-5;
what timm calls `tf_efficientnet_b0` pads on the right, and has 1e-3.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Decay, Positive, Rate
from ssl_jax.models.shared.batch_norm import BatchNorm
from ssl_jax.models.shared.convolution import Conv
from ssl_jax.models.shared.depthwise import Depthwise
from ssl_jax.models.shared.stochastic_depth import StochasticDepth

_STAGES = (  # blocks, kernel, stride of the first, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_SQUEEZE = 0.25  # of a block's own channels, not of the expanded ones
_he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def _depthwise_init(key, shape, dtype=jnp.float32):
    """A channel's own taps are its fan-out: kernels are [height, width, C, 1]."""
    return jax.random.normal(key, shape, dtype) * jnp.sqrt(2 / math.prod(shape[:2]))


class Excitation(nn.Module):
    """Squeeze-and-excitation (arXiv:1709.01507): channels weighed by all pixels."""

    squeezed: int
    conv: Callable

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        y = x_BHWC.mean(axis=(1, 2), keepdims=True)
        y = nn.silu(self.conv(self.squeezed, (1, 1), use_bias=True)(y))
        return x_BHWC * nn.sigmoid(
            self.conv(x_BHWC.shape[-1], (1, 1), use_bias=True)(y)
        )


class Block(nn.Module):
    """Expanded by a 1x1 convolution, each channel convolved, weighed and brought down
    again; added to the input where that has the same shape."""

    filters: int
    kernel: int
    stride: int
    expand: int
    drop: float  # of stochastic depth
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        C, y = x_BHWC.shape[-1], x_BHWC
        if self.expand > 1:
            y = nn.silu(self.norm()(self.conv(C * self.expand, (1, 1))(y)))
        pad = self.kernel // 2
        y = Depthwise(self.kernel, self.stride, (pad, pad), _depthwise_init)(y)
        y = Excitation(round(C * _SQUEEZE), self.conv)(nn.silu(self.norm()(y)))
        y = self.norm()(self.conv(self.filters, (1, 1))(y))
        if self.stride > 1 or self.filters != C:
            return y
        return x_BHWC + StochasticDepth(self.drop)(y, train=train)


class Encoder(nn.Module):
    """5,288,548 parameters with a 1,000-way head.

    B1 has `deepen` 1.1, B2 `widen` 1.1 and `deepen` 1.2. The paper trains B0 with
    `stochastic_depth` 0.2 and `dropout` 0.2.
    """

    takes: ClassVar[str] = "images"
    # it is slow to trace
    small: ClassVar[dict] = {"name": "convnet"}
    widen: Positive = 1.0  # times the filters of every layer, in eights
    deepen: Positive = 1.0  # times the blocks of every stage, rounded up
    # of block i of n at i / n of it; 0: none
    stochastic_depth: Rate = 0.0
    bn_momentum: Decay = 0.9  # PyTorch calls this 0.1
    bn_warmup: bool = True  # it rises to that, so that the moments forget their start
    dtype: jnp.dtype = jnp.float32  # computes in this; parameters stay float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD, D = 1280, times widen."""
        conv = partial(Conv, use_bias=False, kernel_init=_he_fan_out, dtype=self.dtype)
        norm = partial(
            BatchNorm,
            use_running_average=not train,
            momentum=self.bn_momentum,
            warmup=self.bn_warmup,
            epsilon=1e-5,
            dtype=self.dtype,
        )
        stem = conv(self._wide(32), (3, 3), strides=2, padding=1)
        y = nn.silu(norm()(stem(x_BHWC.astype(self.dtype))))
        blocks = list(self._blocks())
        for i, block in enumerate(blocks):
            drop = self.stochastic_depth * i / len(blocks)
            y = Block(**block, drop=drop, conv=conv, norm=norm)(y, train=train)
        y = nn.silu(norm()(conv(self._wide(1280), (1, 1))(y)))
        return y.mean(axis=(1, 2))

    def _blocks(self):
        for blocks, kernel, stride, expand, filters in _STAGES:
            for i in range(math.ceil(self.deepen * blocks)):
                yield dict(
                    filters=self._wide(filters),
                    kernel=kernel,
                    stride=1 if i else stride,
                    expand=expand,
                )

    def _wide(self, filters):
        """The multiple of 8 next to widen * filters, but not below 0.9 of it."""
        wide = filters * self.widen
        eights = max(8, int(wide + 4) // 8 * 8)
        return eights + 8 if eights < 0.9 * wide else eights
