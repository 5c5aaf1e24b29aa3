"""What CTAugment does beside RandAugment's operations, on one packed uint8 image.

google-research/fixmatch, libml/ctaugment.py: autocontrast, equalize, invert, blur and
smooth are blended with the image they came from; rescale zooms in; cutout fills a
square. As in `operations.py` a family is what has one cost, and the arithmetic is that
of Pillow.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.augment.operations import (
    LEVELS,
    OPERATIONS,
    WARPS,
    equalize,
    is_one,
    level,
    on_planes,
    warp,
)

BLENDED = ("autocontrast", "equalize", "invert", "blur", "smooth")
METHODS = ("lanczos", "bicubic", "bilinear", "box", "hamming", "nearest")  # its order
_GREY = 127  # its `cutout`


def ctaugment_families(C: int):
    """CTAugment's families for `operations.slots`.

    They take an operation, its magnitude and more_2. Magnitudes are those of
    `operations.randaugment_families`, and: BLENDED: the weight of the result, 1 - that
    of the image. rescale: the part of the side that is cut off at each border, more_2
    an index into METHODS and nothing. cutout: half of the square's side in pixels,
    more_2 the row and column of its centre.
    """

    def black_warp(words_HW, operation, magnitude, more_2):
        return warp(words_HW, operation, magnitude, fill=0)

    return (
        (WARPS, black_warp),
        (("equalize",), on_planes(_equalize, C)),
        ((*LEVELS, "invert", "smooth"), on_planes(_level, C)),
        (("blur",), on_planes(_blur, C)),
        (("rescale",), on_planes(_rescale, C)),
        (("cutout",), _cutout),
    )


def _blend(planes_CHW: jax.Array, changed_CHW: jax.Array, weight: jax.Array):
    """Image.blend: truncated."""
    return (planes_CHW + weight * (changed_CHW - planes_CHW)).astype(jnp.int32)


def _equalize(planes_CHW: jax.Array, operation, magnitude, more_2) -> jax.Array:
    return _blend(planes_CHW, equalize(planes_CHW), magnitude)


def _level(planes_CHW: jax.Array, operation, magnitude, more_2) -> jax.Array:
    """Two more as those that `operations.level` knows: invert is solarize from 0 on,
    and smooth is sharpness 1 - magnitude, which is blended already."""
    blended = is_one(operation, "autocontrast", "invert")
    weight = jnp.where(blended, magnitude, 1.0)
    inverts, smooths = is_one(operation, "invert"), is_one(operation, "smooth")
    magnitude = jnp.where(inverts, 0.0, jnp.where(smooths, 1 - magnitude, magnitude))
    operation = jnp.where(inverts, OPERATIONS.index("solarize"), operation)
    operation = jnp.where(smooths, OPERATIONS.index("sharpness"), operation)
    return _blend(planes_CHW, level(planes_CHW, operation, magnitude), weight)


def _blur(planes_CHW: jax.Array, operation, magnitude, more_2) -> jax.Array:
    """ImageFilter.BLUR: the mean of the 16 pixels around 3x3, rounded; two rows and
    columns at each border copied. Sums run as in `operations._smooth`."""
    C, H, W = planes_CHW.shape
    N = H * W
    planes_CN = planes_CHW.reshape(C, N)
    rows = [planes_CN[:, i * W : i * W + N - 4 * W] for i in range(5)]
    outer, inner = rows[0] + rows[4], rows[1] + rows[2] + rows[3]
    columns = (outer + inner, outer, outer, outer, outer + inner)
    L = N - 4 * W - 4
    ring = sum(column[:, j : j + L] for j, column in enumerate(columns))
    blurred_CN = jnp.pad((ring + 8) >> 4, ((0, 0), (2 * W + 2, 2 * W + 2)))
    inside_HW = np.pad(np.ones((H - 4, W - 4), bool), 2)
    blurred_CN = jnp.where(inside_HW.reshape(1, N), blurred_CN, planes_CN)
    return _blend(planes_CHW, blurred_CN.reshape(C, H, W), magnitude)


def _rescale(planes_CHW: jax.Array, operation, magnitude, more_2) -> jax.Array:
    """x.crop(box).resize(x.size, method): columns first, each pass rounded."""
    _, H, W = planes_CHW.shape

    def resample(lines, weights):
        # Not TF32, whose 10 bits would be levels of their own.
        out = jnp.matmul(lines, weights.T, precision=jax.lax.Precision.HIGHEST)
        return jnp.floor(jnp.clip(out, 0, 255) + 0.5)

    method = more_2[0]
    x_CHW = resample(planes_CHW.astype(jnp.float32), _weights(W, magnitude, method))
    x_CWH = resample(x_CHW.transpose(0, 2, 1), _weights(H, magnitude, method))
    return x_CWH.transpose(0, 2, 1).astype(jnp.int32)


def _weights(side: int, cut: jax.Array, method: jax.Array) -> jax.Array:
    """[side, side]: of an input pixel (column) in an output one (row), on one axis.

    Pillow's `precompute_coeffs` (src/libImaging/Resample.c) for an enlargement, where
    no kernel widens; `Image.crop` rounds its box.
    """
    start, end = jnp.round(cut * side), jnp.round((1 - cut) * side)
    length = end - start
    i_S1, j_1S = np.arange(side)[:, None], np.arange(side)[None, :]
    # Whole numbers, so that the box kernel meets its borders exactly.
    x_SS = (2 * j_1S + 1 - 2 * start) * side - (2 * i_S1 + 1) * length
    x_SS = x_SS / (2 * side)
    inside_1S = (start <= j_1S) & (j_1S < end)
    weight_SS = jnp.where(inside_1S, _kernel(x_SS, method), 0)
    return weight_SS / weight_SS.sum(1, keepdims=True)


def _kernel(x: jax.Array, method: jax.Array) -> jax.Array:
    """The weight at a distance of x pixels; of METHODS, by index."""
    d = jnp.abs(x)
    sinc = jnp.sinc(x)
    lanczos = jnp.where(d < 3, sinc * jnp.sinc(x / 3), 0)
    near, far = (1.5 * d - 2.5) * d * d + 1, ((2.5 - 0.5 * d) * d - 4) * d + 2
    bicubic = jnp.where(d < 1, near, jnp.where(d < 2, far, 0))
    bilinear = jnp.maximum(1 - d, 0)
    hamming = jnp.where(d < 1, sinc * (0.54 + 0.46 * jnp.cos(np.pi * x)), 0)
    box = jnp.where((-0.5 < x) & (x <= 0.5), 1.0, 0.0)  # nearest, too
    out = box
    for i, kernel in ((0, lanczos), (1, bicubic), (2, bilinear), (4, hamming)):
        out = jnp.where(method == i, kernel, out)
    return out


def _cutout(words_HW: jax.Array, operation, magnitude, more_2) -> jax.Array:
    H, W = words_HW.shape
    row, column = more_2
    i_H1, j_1W = np.arange(H)[:, None], np.arange(W)[None, :]
    inside_H1 = (row - magnitude <= i_H1) & (i_H1 < row + magnitude)
    inside_1W = (column - magnitude <= j_1W) & (j_1W < column + magnitude)
    return jnp.where(inside_H1 & inside_1W, _GREY * 0x010101, words_HW)
