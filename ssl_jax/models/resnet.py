"""Residual network as torchvision builds it, with stems for small images.

He et al., arXiv:1512.03385; the bottleneck strides in its 3x3 convolution ("v1.5").
Convolutions and the max-pool pad by half their kernel on both sides, as PyTorch does:
"SAME" pads even sizes at stride 2 on the right only, and so sees other pixels.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Count, Decay
from ssl_jax.errors import UserError
from ssl_jax.models.shared.batch_norm import BatchNorm
from ssl_jax.models.shared.convolution import Conv
from ssl_jax.models.shared.in_parts import Recomputed

_he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, added to the input."""

    filters: int
    stride: int
    conv: Callable
    norm: Callable
    last_norm: Callable  # before the sum

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        y = self.conv(self.filters, 3, self.stride)(x_BHWC)
        y = nn.relu(self.norm()(y))
        y = self.last_norm()(self.conv(self.filters, 3)(y))
        return nn.relu(y + _shortcut(self, x_BHWC, y.shape[-1]))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the last 4 times as wide, added to the input."""

    filters: int
    stride: int
    conv: Callable
    norm: Callable
    last_norm: Callable  # before the sum

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        y = nn.relu(self.norm()(self.conv(self.filters, 1)(x_BHWC)))
        y = nn.relu(self.norm()(self.conv(self.filters, 3, self.stride)(y)))
        y = self.last_norm()(self.conv(4 * self.filters, 1)(y))
        return nn.relu(y + _shortcut(self, x_BHWC, y.shape[-1]))


def _shortcut(block: nn.Module, x_BHWC: jax.Array, channels: int) -> jax.Array:
    """The input as it is, or projected to the block's size (option B)."""
    if block.stride == 1 and x_BHWC.shape[-1] == channels:
        return x_BHWC
    projected = block.conv(channels, 1, block.stride, name="shortcut")(x_BHWC)
    return block.norm(name="shortcut_norm")(projected)


_NETWORKS = {  # depth: block, blocks a stage
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}
_STEMS = {  # name: kernel and stride of the first convolution, then a max-pool or not
    "imagenet": (7, 2, True),
    "cifar": (3, 1, False),
    "stl10": (3, 1, True),
}


class Encoder(nn.Module):
    """ResNet-18: 11,689,512 parameters with the ImageNet stem and a 1,000-way head.

    The stems are torchvision's ("imagenet"), and those of htdt/self-supervised for
    32 px ("cifar") and for 64 px crops ("stl10").

    Raises:
      UserError: unknown depth or stem.
    """

    takes: ClassVar[str] = "images"
    # it takes seconds to compile, each time
    small: ClassVar[dict] = {"name": "convnet"}
    depth: Count = 18  # or 34, 50
    stem: str = "imagenet"  # or "cifar", "stl10"
    width: Count = 64  # filters of the stem and of the first stage
    # whether each block starts as its shortcut (arXiv:1706.02677, section 5.1)
    zero_init_residual: bool = False
    bn_momentum: Decay = 0.9  # PyTorch calls this 0.1
    bn_warmup: bool = True  # it rises to that, so that the moments forget their start
    remat: bool = False  # blocks are computed again for their gradients, to save memory
    dtype: jnp.dtype = jnp.float32  # computes in this; parameters stay float32

    def __post_init__(self):
        for field, known in (("depth", _NETWORKS), ("stem", _STEMS)):
            if getattr(self, field) not in known:
                raise UserError(
                    f"model.{field}={getattr(self, field)!r} is unknown to resnet; "
                    f"choose from {sorted(known)}."
                )
        super().__post_init__()

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD, D = 8 * width, or 32 * width at depth 50."""
        conv = partial(_conv, dtype=self.dtype)
        norm = partial(
            BatchNorm,
            use_running_average=not train,
            momentum=self.bn_momentum,
            warmup=self.bn_warmup,
            epsilon=1e-5,
            dtype=self.dtype,
        )
        layers = dict(conv=conv, norm=norm, last_norm=norm)
        if self.zero_init_residual:
            layers["last_norm"] = partial(norm, scale_init=nn.initializers.zeros)
        kernel, stride, pool = _STEMS[self.stem]
        y = conv(self.width, kernel, stride)(x_BHWC.astype(self.dtype))
        y = nn.relu(norm()(y))
        if pool:
            y = nn.max_pool(y, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        block, blocks = _NETWORKS[self.depth]
        for stage, length in enumerate(blocks):
            for i in range(length):
                stride = 2 if stage > 0 and i == 0 else 1
                layer = block(self.width * 2**stage, stride, **layers)
                y = (Recomputed(layer) if self.remat and train else layer)(y)
        return y.mean(axis=(1, 2))


def _conv(filters: int, kernel: int, stride: int = 1, **kwargs) -> nn.Conv:
    return Conv(
        filters,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2,
        use_bias=False,
        kernel_init=_he_fan_out,
        **kwargs,
    )
