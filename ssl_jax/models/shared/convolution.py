"""Convolutions as a CPU is fast at them; on an accelerator XLA's own, unchanged.

What XLA:CPU makes of a convolution in float32, measured on one core with images of
WRN-28-2 (of its 100 GFLOP/s or so):

* the gradient by the kernel takes the batch as channels and falls out of the cache as
  it grows: 20 GFLOP/s for 448 images of 16x16x64, 65 to 80 as a sum over pieces;
* a kernel of 1x1 is a matrix product; of that the gradient by the kernel runs at 15 to
  40 GFLOP/s as XLA orders its numbers, at 80 with the images transposed first;
* where channels are many, Winograd's way is 1.5 (64) to 1.8 (128) times as fast;
* the gradient by the images has no zeros to multiply with a stride, either: written as
  a convolution of every remainder it was slower.

A convolution inside a loop, or vmapped over kernels, is 20 to 50 times slower than
outside on a CPU, however it is written: `train.program` does without loops there.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import export
from jax.sharding import PartitionSpec as P

from ssl_jax import core
from ssl_jax.models.shared import winograd

PIECE = 2**21  # bytes of images whose gradient by the kernel is taken at once
PIECES = 64  # at most: each is compiled
MANY = 64  # channels, in and out, from which on Winograd's way is faster

Pads = tuple[tuple[int, int], tuple[int, int]]


def convolution(
    x_BHWC: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **others,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` as `nn.Conv` calls it: NHWC and HWIO."""
    if jax.default_backend() != "cpu" or not _is_simple(x_BHWC, kernel, others):
        return jax.lax.conv_general_dilated(
            x_BHWC, kernel, window_strides, padding, **others
        )
    strides = tuple(window_strides)
    pads = padding
    if isinstance(padding, str):
        pads = jax.lax.padtype_to_pads(
            x_BHWC.shape[1:3], kernel.shape[:2], strides, padding
        )
    pads = tuple(map(tuple, pads))
    if kernel.shape[:2] == (1, 1) and pads == ((0, 0), (0, 0)):
        return _product(x_BHWC[:, :: strides[0], :: strides[1]], kernel[0, 0])
    return _on_cpu(x_BHWC, kernel, strides, pads)


# In place of nn.Conv: the same parameters, names and numbers up to rounding.
Conv = partial(nn.Conv, conv_general_dilated=convolution)


def _is_simple(x_BHWC, kernel, others):
    """Neither dilated nor in groups, in a precision that a CPU multiplies in, and of a
    known number of images: what is traced for any is exported, and may run elsewhere.
    """
    if export.is_symbolic_dim(x_BHWC.shape[0]):
        return False
    asked = [given for name, given in others.items() if name != "dimension_numbers"]
    if any(given not in (None, 1, (1, 1)) for given in asked):
        return False
    return x_BHWC.dtype == kernel.dtype and kernel.dtype in (jnp.float32, jnp.float64)


@jax.custom_vjp
def _product(x_BHWC, kernel_CD):
    return x_BHWC @ kernel_CD


def _product_backward(saved, dy_BHWD):
    x_BHWC, kernel_CD = saved
    # Behind the barrier, or XLA takes the transposition into the product again.
    x_CN = jax.lax.optimization_barrier(x_BHWC.reshape(-1, x_BHWC.shape[-1]).T)
    return dy_BHWD @ kernel_CD.T, x_CN @ dy_BHWD.reshape(-1, dy_BHWD.shape[-1])


_product.defvjp(lambda x, kernel: (_product(x, kernel), (x, kernel)), _product_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _on_cpu(x_BHWC, kernel, strides, pads):
    if _by_winograd(x_BHWC.shape, kernel, strides, pads):
        return winograd.convolve(x_BHWC, kernel)
    return _plain(x_BHWC, kernel, strides, pads)


def _forward(x_BHWC, kernel, strides, pads):
    return _on_cpu(x_BHWC, kernel, strides, pads), (x_BHWC, kernel)


def _backward(strides, pads, saved, dy_BHWD):
    x_BHWC, kernel = saved
    if _by_winograd(x_BHWC.shape, kernel, strides, pads):
        dx_BHWC = winograd.image_gradient(dy_BHWD, kernel)
    else:
        _, pull = jax.vjp(lambda x: _plain(x, kernel, strides, pads), x_BHWC)
        (dx_BHWC,) = pull(dy_BHWD)
    return dx_BHWC, _kernel_gradient(x_BHWC, kernel, strides, pads, dy_BHWD)


_on_cpu.defvjp(_forward, _backward)


def _by_winograd(shape, kernel, strides, pads):
    _, H, W, _ = shape
    many = min(kernel.shape[2:]) >= MANY
    same = strides == (1, 1) and pads == ((1, 1), (1, 1))
    even = H % 2 == W % 2 == 0  # an odd one would be filled up
    return kernel.shape[:2] == (3, 3) and same and many and even


def _plain(x_BHWC, kernel, strides, pads):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x_BHWC, kernel, strides, pads, dimension_numbers=layout
    )


def _kernel_gradient(x_BHWC, kernel, strides, pads, dy_BHWD):
    """In pieces of each device's own rows."""
    shape = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype)

    def of_rows(x_BHWC, dy_BHWD):
        if _by_winograd(x_BHWC.shape, kernel, strides, pads):
            return winograd.kernel_gradient(x_BHWC, dy_BHWD)
        total, B = 0.0, len(x_BHWC)
        piece = max(PIECE // x_BHWC[0].nbytes, -(-B // PIECES))
        for i in range(0, B, piece):
            x, dy = x_BHWC[i : i + piece], dy_BHWD[i : i + piece]
            by_kernel = partial(_plain, x, strides=strides, pads=pads)
            total += jax.linear_transpose(by_kernel, shape)(dy)[0]
        return total

    return over_devices(of_rows, x_BHWC, dy_BHWD)


def over_devices(
    gradient: Callable[[jax.Array, jax.Array], jax.Array],
    x_BHWC: jax.Array,
    dy_BHWD: jax.Array,
) -> jax.Array:
    """The sum of `gradient` over the rows of all devices, each of which takes its own:
    one all-reduce."""
    devices = core.num_devices()
    if devices == 1 or len(x_BHWC) % devices:
        return gradient(x_BHWC, dy_BHWD)
    return jax.shard_map(
        lambda *rows: jax.lax.psum(gradient(*rows), "data"),
        in_specs=(P("data"), P("data")),
        out_specs=P(),
        check_vma=False,  # or each piece would be summed over the devices
    )(x_BHWC, dy_BHWD)
