"""Crops that are resized: one uint8 image in, float32 in [0, 1] out.

Use `jax.vmap` for a batch, with one key or box per image. The resampling is Pillow's
and torchvision's: crop, then resize with antialiasing.

The rows are gathered, a few taps each (a row is contiguous), and the columns are a
product with a matrix of weights. At sides of 32 to 96 two products take 1.5 to 2.7
times the CPU time, and two gathers 1.3 to 3.6 times
(experiments/results/views_speed.jsonl). `jax.image.scale_and_translate` takes 1.4
to 2.7 times, and lets pixels from outside the box in.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError

Box = tuple[jax.Array, jax.Array, jax.Array, jax.Array]  # top, left, height, width

_TRIES = 10  # torchvision


def random_resized_crop(
    key: jax.Array,
    image_HWC: jax.Array,
    *,
    side: int,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    method: str = "bicubic",
) -> jax.Array:
    """A `random_box` of the image, resized to float32 [side, side, C].

    Raises:
      UserError: as `random_box` and `resized`; or side is larger than the image.
    """
    H, W, _ = image_HWC.shape
    _check_side(side, H, W)
    return resized(
        image_HWC, random_box(key, H, W, area=area, ratio=ratio), side, method=method
    )


def central(image_HWC: jax.Array, *, resize: int, side: int) -> jax.Array:
    """Resizes to resize x resize (bilinear), and takes [side, side, C] of the centre.

    For evaluation. resize == H only crops, side == resize only resizes. Of an image
    that is not square this is the central square: what resizing the shorter side and
    then cropping leaves.

    Raises:
      UserError: side is larger than the image, or than resize.
    """
    H, W, _ = image_HWC.shape
    _check_side(side, H, W)
    if side > resize:
        raise UserError(
            f"augment.side={side} is larger than resize={resize}, which comes before "
            "the crop: use a smaller augment.side, or a larger resize."
        )
    short = min(H, W)
    top, left = (H - short) // 2, (W - short) // 2
    if resize == short:
        square_HWC = image_HWC[top : top + short, left : left + short]
        square_HWC = square_HWC.astype(jnp.float32) / 255
    else:
        box = (top, left, short, short)
        square_HWC = resized(image_HWC, box, resize, method="bilinear")
    first = round((resize - side) / 2)  # torchvision: halves to even
    return square_HWC[first : first + side, first : first + side]


def random_box(
    key: jax.Array,
    H: int,
    W: int,
    *,
    area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """A part of an H x W image of random area and ratio; four int32 scalars.

    torchvision's `RandomResizedCrop.get_params`: of ten tries the first that fits; if
    none does, the largest central box whose ratio is allowed.

    Args:
      area: least and most, as parts of the image's.
      ratio: least and most width / height; uniform in its logarithm.

    Raises:
      UserError: unless 0 < area[0] <= area[1] <= 1.
    """
    check_area(area)
    # One call for all draws: on a CPU each call is a loop of its own.
    draws = jax.random.uniform(key, (2 * _TRIES + 2,))
    part_T, log_T = draws[:_TRIES], draws[_TRIES:-2]
    area_T = H * W * (area[0] + (area[1] - area[0]) * part_T)
    least, most = math.log(ratio[0]), math.log(ratio[1])
    ratio_T = jnp.exp(least + (most - least) * log_T)
    width_T = jnp.round(jnp.sqrt(area_T * ratio_T)).astype(jnp.int32)
    height_T = jnp.round(jnp.sqrt(area_T / ratio_T)).astype(jnp.int32)
    fits_T = (0 < width_T) & (width_T <= W) & (0 < height_T) & (height_T <= H)

    first, any_fits = jnp.argmax(fits_T), fits_T.any()
    central_height, central_width = _central_box(H, W, ratio)
    height = jnp.where(any_fits, height_T[first], central_height)
    width = jnp.where(any_fits, width_T[first], central_width)
    free_2 = jnp.stack([H - height, W - width])
    # A draw is at most 1 - 2^-23, so that the product stays below free + 1.
    corner_2 = jnp.floor(draws[-2:] * (free_2 + 1)).astype(jnp.int32)
    top, left = jnp.where(any_fits, corner_2, free_2 // 2)
    return top, left, height, width


def _central_box(H: int, W: int, ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest box of an allowed ratio."""
    if W / H < ratio[0]:
        return round(W / ratio[0]), W
    if W / H > ratio[1]:
        return H, round(H * ratio[1])
    return H, W


def resized(
    image_HWC: jax.Array, box: Box, side: int, *, method: str = "bicubic"
) -> jax.Array:
    """float32 [side, side, C] of the box alone, as `Image.crop(box).resize(side)`.

    Pillow's `precompute_coeffs` (src/libImaging/Resample.c) without its rounding to
    levels: pixels outside the box have no weight, a kernel widens with the reduction,
    and weights are normalised. A bicubic kernel overshoots, so the result is clipped.

    Args:
      box: top, left, height and width in pixels, inside the image; may be traced.
      method: "bicubic" (a = -0.5) or "bilinear".

    Raises:
      UserError: there is no such method.
    """
    check_method(method)
    H, W, C = image_HWC.shape
    top, left, height, width = box
    row_ST, weight_ST = taps(top, height, size=H, side=side, method=method)
    rows = jnp.asarray(image_HWC).reshape(H, W * C)
    rows = sum(
        weight_S[:, None]
        * rows.at[row_S].get(mode="promise_in_bounds").astype(jnp.float32)
        for row_S, weight_S in zip(row_ST.T, weight_ST.T, strict=True)
    )
    weight_SW = weights(np.arange(W)[None, :], left, width, side=side, method=method)
    out = jnp.einsum(
        "tw,swc->stc",
        weight_SW,
        rows.reshape(side, W, C),
        precision=jax.lax.Precision.HIGHEST,  # not TF32
    )
    return jnp.clip(out / 255, 0, 1)


def taps(
    start: jax.Array, length: jax.Array, *, size: int, side: int, method: str
) -> tuple[jax.Array, jax.Array]:
    """On one axis: index_ST of the pixels that make S = side outputs, and weight_ST.

    There are as many taps T as the strongest reduction takes, which is size / side.

    Args:
      start, length: the box on this axis.
      size: the image's side, which no index exceeds.
    """
    _, support = _KERNELS[method]
    T = math.ceil(2 * support * max(size / side, 1))
    center_S, widening = _centers(start, length, side)
    first_S = jnp.floor(center_S - support * widening + 0.5).astype(jnp.int32)
    index_ST = first_S[:, None] + np.arange(T)[None, :]
    weight_ST = weights(index_ST, start, length, side=side, method=method)
    return jnp.clip(index_ST, 0, size - 1), weight_ST


def weights(
    index_SN: jax.Array, start: jax.Array, length: jax.Array, *, side: int, method: str
) -> jax.Array:
    """The weight [side, N] of pixel index_SN in each output; 0 outside the box.

    Args:
      index_SN: [side, N], or [1, N] for the same pixels in every output.
    """
    kernel, _ = _KERNELS[method]
    center_S, widening = _centers(start, length, side)
    weight_SN = kernel(jnp.abs(index_SN + 0.5 - center_S[:, None]) / widening)
    inside_SN = (start <= index_SN) & (index_SN < start + length)
    weight_SN = weight_SN * inside_SN
    return weight_SN / weight_SN.sum(1, keepdims=True)


def _centers(
    start: jax.Array, length: jax.Array, side: int
) -> tuple[jax.Array, jax.Array]:
    """Where in the image the outputs' centres are, and how much the kernel widens."""
    scale = jnp.float32(length) / side
    return start + (np.arange(side) + 0.5) * scale, jnp.maximum(scale, 1)


def _bilinear(x: jax.Array) -> jax.Array:
    return jnp.maximum(1 - x, 0)


def _bicubic(x: jax.Array) -> jax.Array:
    a = -0.5  # Pillow; OpenCV and PyTorch without antialiasing have -0.75
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0))


# The weight at a distance from the centre, and the distance where it ends.
_KERNELS = {"bicubic": (_bicubic, 2), "bilinear": (_bilinear, 1)}


def check_area(area: tuple[float, float]) -> None:
    """Raises UserError unless `area` is a range of shares of an image."""
    if len(area) != 2 or not 0 < area[0] <= area[1] <= 1:
        raise UserError(
            f"augment.area={tuple(area)} is not a range of parts of the image: give "
            "the least and the most, 0 < least <= most <= 1, such as (0.08, 1.0)."
        )


def check_method(method: str) -> None:
    """Raises UserError unless `resized` knows the method."""
    if method not in _KERNELS:
        raise UserError(
            f"augment.method={method!r} is unknown; there are: {', '.join(_KERNELS)}."
        )


def _check_side(side: int, H: int, W: int) -> None:
    if side > min(H, W):
        raise UserError(
            f"augment.side={side} is larger than the {H}x{W} images: use a smaller "
            "augment.side, or a larger data.image_size."
        )
