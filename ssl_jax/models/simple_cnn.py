"""One convolution: the network of the pseudo-label tutorial on MNIST."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Count
from ssl_jax.models.shared.convolution import Conv


class Encoder(nn.Module):
    """3x3 convolution without padding, ReLU, flattened; initialised as Keras's Conv2D.

    216,650 parameters with a 10-way head on 28x28x1: 320, and 26 * 26 * 32 * 10 + 10 in
    the head, so nearly all of them weigh a pixel's neighbourhood by where it is.
    """

    takes: ClassVar[str] = "images"
    small: ClassVar[dict] = {"filters": 4}
    filters: Count = 32
    dtype: jnp.dtype = jnp.float32  # computes in this; parameters stay float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD, D = (H - 2) * (W - 2) * filters."""
        del train  # nothing here behaves otherwise in training
        conv = Conv(
            self.filters,
            (3, 3),
            padding="VALID",
            kernel_init=nn.initializers.glorot_uniform(),
            dtype=self.dtype,
        )
        y = nn.relu(conv(x_BHWC.astype(self.dtype)))
        return y.reshape(y.shape[0], -1)
