"""Convolution whose windows do not overlap: a matrix product of patches."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn


class Patches(nn.Module):
    """`filters` of each patch of `side` x `side` pixels, with a bias; rows and columns
    of pixels that fill no patch are left out, as a convolution leaves them."""

    filters: int
    side: int
    kernel_init: Callable
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        """[B, H // side, W // side, filters]."""
        (B, H, W, C), side = x_BHWC.shape, self.side
        shape = (side, side, C, self.filters)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias_D = self.param("bias", nn.initializers.zeros, (self.filters,))
        h, w = H // side, W // side
        x = x_BHWC[:, : h * side, : w * side].reshape(B, h, side, w, side, C)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(B, h, w, side * side * C)
        kernel, bias_D = kernel.astype(self.dtype), bias_D.astype(self.dtype)
        y_BhwD = x.astype(self.dtype) @ kernel.reshape(-1, self.filters)
        return y_BhwD + bias_D[None, None, None]
