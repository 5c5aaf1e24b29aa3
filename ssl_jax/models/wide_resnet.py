"""Wide residual network as the semi-supervised papers use it.

Zagoruyko and Komodakis, arXiv:1605.07146, in the variant of google-research/fixmatch
(libml/models.py): pre-activation blocks, LeakyReLU 0.1, BatchNorm momentum 0.999.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Count, Decay
from ssl_jax.models.shared.batch_norm import BatchNorm
from ssl_jax.models.shared.convolution import Conv
from ssl_jax.models.shared.in_parts import Recomputed

_he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Block(nn.Module):
    """BatchNorm, LeakyReLU and 3x3 convolution twice, added to the input."""

    filters: int
    stride: int
    activate_before_residual: bool  # the shortcut starts after the first activation
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        y = _activate(self.norm()(x_BHWC))
        shortcut = y if self.activate_before_residual else x_BHWC
        y = self.conv(self.filters, (3, 3), strides=self.stride)(y)
        y = _activate(self.norm()(y))
        y = self.conv(self.filters, (3, 3))(y)
        if shortcut.shape[-1] != self.filters:
            conv = self.conv(self.filters, (1, 1), strides=self.stride, name="shortcut")
            shortcut = conv(shortcut)
        return shortcut + y


class Encoder(nn.Module):
    """WRN-28-2 by default: 1,467,610 parameters with a 10-way head."""

    takes: ClassVar[str] = "images"
    # it takes seconds to compile, each time
    small: ClassVar[dict] = {"name": "convnet"}
    widen: Count = 2  # filters are 16 * widen in the first scale, doubled in each next
    blocks: Count = 4  # residual blocks a scale: depth is 3 scales * 4 blocks * 2 + 4
    scales: Count = 3  # STL-10's 96 px take 4 (google-research/fixmatch#34)
    first_stride: Count = 1  # of the first scale, 2 in TorchSSL's STL-10; then 2
    bn_momentum: Decay = 0.999  # PyTorch calls this 0.001
    bn_warmup: bool = True  # it rises to that, so that the moments forget their start
    remat: bool = False  # blocks are computed again for their gradients, to save memory
    dtype: jnp.dtype = jnp.float32  # computes in this; parameters stay float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD, D = 16 * widen * 2 ** (scales - 1)."""
        conv = partial(Conv, use_bias=False, kernel_init=_he_fan_out, dtype=self.dtype)
        norm = partial(
            BatchNorm,
            use_running_average=not train,
            momentum=self.bn_momentum,
            warmup=self.bn_warmup,
            epsilon=1e-3,
            dtype=self.dtype,
        )
        y = conv(16, (3, 3))(x_BHWC.astype(self.dtype))
        for scale in range(self.scales):
            for block in range(self.blocks):
                layer = Block(
                    filters=16 * self.widen * 2**scale,
                    stride=1 if block else 2 if scale else self.first_stride,
                    activate_before_residual=scale == 0 and block == 0,
                    conv=conv,
                    norm=norm,
                )
                y = (Recomputed(layer) if self.remat and train else layer)(y)
        return _activate(norm()(y)).mean(axis=(1, 2))


def _activate(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, 0.1)
