"""A small convolutional network for digits and MNIST: seconds a run on a CPU."""

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Count, Decay, Some
from ssl_jax.models.shared.batch_norm import BatchNorm
from ssl_jax.models.shared.convolution import Conv


class Encoder(nn.Module):
    """Stages of two 3x3 convolutions, halved between stages, averaged at the end."""

    takes: ClassVar[str] = "images"
    small: ClassVar[dict] = {"filters": (8, 8)}
    filters: Some[Count] = (16, 32, 64)  # one entry a stage
    stem_stride: Count = 1  # of the first convolution; 2 for images of 28 px and more
    bn_momentum: Decay = 0.99  # short runs: the moments must follow within hundreds
    bn_warmup: bool = True  # it rises to that, so that the moments forget their start
    dtype: jnp.dtype = jnp.float32  # computes in this; parameters stay float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD, D = filters[-1]."""
        conv = partial(Conv, kernel_size=(3, 3), use_bias=False, dtype=self.dtype)
        norm = partial(
            BatchNorm,
            use_running_average=not train,
            momentum=self.bn_momentum,
            warmup=self.bn_warmup,
            dtype=self.dtype,
        )
        y = x_BHWC.astype(self.dtype)
        for stage, filters in enumerate(self.filters):
            stride = self.stem_stride if stage == 0 else 2
            y = nn.relu(norm()(conv(filters, strides=stride)(y)))
            y = nn.relu(norm()(conv(filters)(y)))
        return y.mean(axis=(1, 2))
