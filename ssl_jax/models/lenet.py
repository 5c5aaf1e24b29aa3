"""Strided convolutions and a dense layer: LeCun et al. (1998) in spirit, for MNIST.

The flattened map keeps where a stroke is, which an average over it would lose and a
decoder needs. LeNet-5 itself has 5x5 kernels, subsampling and tanh.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Count, Some
from ssl_jax.models.shared.convolution import Conv


class Encoder(nn.Module):
    """3x3 convolutions of stride 2, flattened, one dense layer; ReLU everywhere."""

    takes: ClassVar[str] = "images"
    small: ClassVar[dict] = {"filters": (4, 8), "features": 16}
    filters: Some[Count] = (16, 32)  # one entry a convolution
    features: Count = 256  # D, of the dense layer
    dtype: jnp.dtype = jnp.float32  # computes in this; parameters stay float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD."""
        del train  # nothing here behaves otherwise in training
        y = x_BHWC.astype(self.dtype)
        for filters in self.filters:
            y = nn.relu(Conv(filters, (3, 3), strides=2, dtype=self.dtype)(y))
        y = y.reshape(y.shape[0], -1)
        return nn.relu(nn.Dense(self.features, dtype=self.dtype)(y))
