"""MobileNet v1 as Keras builds it, for the two-phase tutorial on CIFAR-10.

Howard et al., arXiv:1704.04861, in the variant of keras.applications.MobileNet without
its dropout of 0.001 before the head: BatchNorm with momentum 0.99 and epsilon 0.001,
kernels drawn by glorot_uniform, ReLU6. With stride 2 Keras pads on the right and at the
bottom only.
"""

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.core.ranges import Decay, Positive
from ssl_jax.errors import UserError
from ssl_jax.models.shared.batch_norm import BatchNorm
from ssl_jax.models.shared.convolution import Conv
from ssl_jax.models.shared.depthwise import Depthwise

_BLOCKS = (  # filters and stride
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)
_SMALLEST_SIDE = 32  # halved five times: 1 px; Keras's own limit


class Encoder(nn.Module):
    """3,217,226 parameters and 21,888 moments with a 10-way head, on 3 channels.

    Raises:
      UserError: images of less than 32 pixels a side.
    """

    takes: ClassVar[str] = "images"
    # it takes nothing below 32 pixels, and is slow to trace
    small: ClassVar[dict] = {"name": "convnet"}
    widen: Positive = 1.0  # alpha: times the filters of every layer
    bn_momentum: Decay = 0.99
    bn_warmup: bool = True  # it rises to that, so that the moments forget their start
    dtype: jnp.dtype = jnp.float32  # computes in this; parameters stay float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, *, train: bool) -> jax.Array:
        """features_BD, D = int(1024 * widen)."""
        _, H, W, _ = x_BHWC.shape
        if min(H, W) < _SMALLEST_SIDE:
            raise UserError(
                f"{H}x{W} images are too small for model.name='mobilenet': it halves "
                f"them five times, so the smallest side is {_SMALLEST_SIDE}; use a "
                "larger data.image_size, or 'convnet'."
            )
        conv = partial(
            Conv,
            use_bias=False,
            kernel_init=nn.initializers.glorot_uniform(),
            dtype=self.dtype,
        )
        norm = partial(
            BatchNorm,
            use_running_average=not train,
            momentum=self.bn_momentum,
            warmup=self.bn_warmup,
            epsilon=1e-3,
            dtype=self.dtype,
        )
        # Keras counts all C channels as this kernel's inputs: it starts small.
        depthwise = partial(Depthwise, kernel_init=nn.initializers.glorot_uniform())
        y = conv(int(32 * self.widen), (3, 3), strides=2)(x_BHWC.astype(self.dtype))
        y = jax.nn.relu6(norm()(y))
        for filters, stride in _BLOCKS:
            pad = (1, 1) if stride == 1 else (0, 1)
            y = jax.nn.relu6(norm()(depthwise(3, stride, pad)(y)))
            y = jax.nn.relu6(norm()(conv(int(filters * self.widen), (1, 1))(y)))
        return y.mean(axis=(1, 2))
