"""Dense layers on the flattened image; 784 - 32 encodes in the autoencoder tutorial."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Count, Some


class Encoder(nn.Module):
    """Dense and ReLU a layer, initialised as Keras's Dense: glorot_uniform and 0."""

    takes: ClassVar[str] = "images"
    small: ClassVar[dict] = {"features": (16,)}
    features: Some[Count] = (32,)  # one entry a layer
    dtype: jnp.dtype = jnp.float32  # computes in this; parameters stay float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD, D = features[-1]."""
        del train  # nothing here behaves otherwise in training
        y = x_BHWC.astype(self.dtype).reshape(x_BHWC.shape[0], -1)
        for features in self.features:
            dense = nn.Dense(
                features,
                kernel_init=nn.initializers.glorot_uniform(),
                dtype=self.dtype,
            )
            y = nn.relu(dense(y))
        return y
