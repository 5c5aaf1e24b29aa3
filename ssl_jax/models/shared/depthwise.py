"""Convolution of every channel with a kernel of its own, as sums of shifted images.

One multiply-add for each of a kernel's 3x3 or so taps, which XLA fuses: on a CPU a
training step of all of MobileNet takes a third to an eighth of its time by
`feature_group_count`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from ssl_jax.models.shared import convolution

Pad = tuple[int, int]  # zeros before and after


class Depthwise(nn.Module):
    """`depthwise` and its kernel, [size, size, C, 1] as in Keras; its zeros as well."""

    size: int
    stride: int
    pad: Pad
    kernel_init: Callable
    use_bias: bool = False

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x_BHWC.shape[-1], 1)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = depthwise(x_BHWC, kernel[..., 0], stride=self.stride, pad=self.pad)
        if not self.use_bias:
            return y
        bias_C = self.param("bias", nn.initializers.zeros, x_BHWC.shape[-1:])
        return y + bias_C.astype(y.dtype)[None, None, None]


def depthwise(
    x_BHWC: jax.Array, kernel_ijC: jax.Array, *, stride: int, pad: Pad
) -> jax.Array:
    """[B, H', W', C], of images padded with `pad` along both sides.

    Args:
      kernel_ijC: float32 with bfloat16 images too: then sums are rounded once.
    """
    if jax.default_backend() != "cpu":
        return _taps(_padded(x_BHWC, pad), kernel_ijC, stride)
    return _on_cpu(x_BHWC, kernel_ijC, stride, pad)


def _padded(x_BHWC, pad):
    return jnp.pad(x_BHWC, ((0, 0), pad, pad, (0, 0)))


def _taps(x_BHWC, kernel_ijC, stride):
    """Of padded images."""
    _, H, W, _ = _seen(x_BHWC, kernel_ijC)
    rows, columns, _ = kernel_ijC.shape
    y_BHWC = 0.0
    for i in range(rows):
        for j in range(columns):
            seen_BHWC = x_BHWC[:, i : i + H : stride, j : j + W : stride]
            y_BHWC += seen_BHWC * kernel_ijC[i, j][None, None, None, :]
    return y_BHWC.astype(x_BHWC.dtype)


def _seen(x_BHWC, kernel_ijC):
    """The shape of what one tap sees of padded images, with stride 1."""
    B, H, W, C = x_BHWC.shape
    rows, columns, _ = kernel_ijC.shape
    return B, H - rows + 1, W - columns + 1, C


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _on_cpu(x_BHWC, kernel_ijC, stride, pad):
    return _taps(_padded(x_BHWC, pad), kernel_ijC, stride)


def _forward(x_BHWC, kernel_ijC, stride, pad):
    return _on_cpu(x_BHWC, kernel_ijC, stride, pad), (x_BHWC, kernel_ijC)


def _backward(stride, pad, saved, dy_BHWC):
    x_BHWC, kernel_ijC = saved
    _, pull = jax.vjp(lambda x: _taps(_padded(x, pad), kernel_ijC, stride), x_BHWC)
    of_rows = partial(_kernel_gradient, kernel_ijC=kernel_ijC, stride=stride, pad=pad)
    return *pull(dy_BHWC), convolution.over_devices(of_rows, x_BHWC, dy_BHWC)


_on_cpu.defvjp(_forward, _backward)


def _kernel_gradient(x_BHWC, dy_BHWC, *, kernel_ijC, stride, pad):
    """In a loop over taps: without one, XLA fuses what made the images, BatchNorm and
    activation, into each tap's sum, and computes it once for each."""
    x_BHWC, dy_BHWC = _padded(x_BHWC, pad), dy_BHWC.astype(kernel_ijC.dtype)
    rows, columns, _ = kernel_ijC.shape
    size = _seen(x_BHWC, kernel_ijC)

    def of_tap(tap):
        at = (0, tap // columns, tap % columns, 0)
        seen_BHWC = jax.lax.dynamic_slice(x_BHWC, at, size)[:, ::stride, ::stride]
        return (seen_BHWC * dy_BHWC).sum((0, 1, 2))

    return jax.lax.map(of_tap, jnp.arange(rows * columns)).reshape(kernel_ijC.shape)
