"""The 13-layer network of Temporal Ensembling and Mean Teacher.

Laine and Aila, arXiv:1610.02242, table 5; Tarvainen and Valpola, arXiv:1703.01780,
table 4. Two departures. BatchNorm follows every convolution, as in most later code and
in the first version of Mean Teacher, where the tables have weight normalisation with
mean-only BatchNorm. And there is neither the Gaussian noise on the input nor the
dropout of 0.5 after each pooling: noise comes from the views here, for all networks
alike.
"""

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Count, Decay
from ssl_jax.errors import UserError
from ssl_jax.models.shared.batch_norm import BatchNorm
from ssl_jax.models.shared.convolution import Conv

_he = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
_SMALLEST_SIDE = 12  # halved twice: 3 px, which the unpadded 3x3 convolution turns to 1


class Encoder(nn.Module):
    """3,121,802 parameters with a 10-way head, on images of 3 channels.

    Raises:
      UserError: images of less than 12 pixels a side.
    """

    takes: ClassVar[str] = "images"
    # it takes nothing below 12 pixels
    small: ClassVar[dict] = {"name": "convnet"}
    width: Count = 128  # filters of the first three convolutions, and features
    bn_momentum: Decay = 0.999  # Laine and Aila's; PyTorch calls this 0.001
    bn_warmup: bool = True  # it rises to that, so that the moments forget their start
    dtype: jnp.dtype = jnp.float32  # computes in this; parameters stay float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD, D = width."""
        _, H, W, _ = x_BHWC.shape
        if min(H, W) < _SMALLEST_SIDE:
            raise UserError(
                f"{H}x{W} images are too small for model.name='cnn13': it halves them "
                f"twice and then needs 3 pixels, so the smallest side is "
                f"{_SMALLEST_SIDE}; use a larger data.image_size, or 'convnet'."
            )
        norm = partial(
            BatchNorm,
            use_running_average=not train,
            momentum=self.bn_momentum,
            warmup=self.bn_warmup,
            dtype=self.dtype,
        )

        def layer(y, filters, kernel, padding="SAME"):
            conv = Conv(
                filters,
                (kernel, kernel),
                padding=padding,
                use_bias=False,
                kernel_init=_he,
                dtype=self.dtype,
            )
            return nn.leaky_relu(norm()(conv(y)), 0.1)

        y = x_BHWC.astype(self.dtype)
        for filters in (self.width, 2 * self.width):
            for _ in range(3):
                y = layer(y, filters, 3)
            y = nn.max_pool(y, (2, 2), strides=(2, 2))
        y = layer(y, 4 * self.width, 3, padding="VALID")
        y = layer(y, 2 * self.width, 1)
        y = layer(y, self.width, 1)
        return y.mean(axis=(1, 2))
