"""Flip, shift and cutout: one image each, `(key, image_HWC uint8) -> image_HWC uint8`.

Use `jax.vmap` for a batch, with one key per image.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.augment import crops
from ssl_jax.errors import UserError


def flip(key: jax.Array, image_HWC: jax.Array) -> jax.Array:
    """Mirrors left and right with probability 0.5."""
    return jnp.where(jax.random.bernoulli(key), image_HWC[:, ::-1], image_HWC)


def shift(key: jax.Array, image_HWC: jax.Array, *, max_shift: int) -> jax.Array:
    """Moves the image by -max_shift..max_shift pixels on each axis, with reflection.

    The same as a reflecting pad (the border is not repeated) and a random crop, which
    is how google-research/fixmatch writes it (libml/augment.py, `augment_shift`).

    Raises:
      UserError: a reflection can't be longer than the image less its border.
    """
    H, W, _ = image_HWC.shape
    if not 0 <= max_shift < min(H, W):
        raise UserError(
            f"augment.shift={max_shift} does not fit {H}x{W} images: a reflection "
            f"reaches at most {min(H, W) - 1} pixels; use a smaller shift."
        )
    row, column = jax.random.randint(key, (2,), -max_shift, max_shift + 1)
    rows_H = _reflect(jnp.arange(H) + row, H)
    columns_W = _reflect(jnp.arange(W) + column, W)
    return image_HWC[rows_H][:, columns_W]


def _reflect(position: jax.Array, size: int) -> jax.Array:
    """-2, -1, 0 .. size-1, size, size+1 -> 2, 1, 0 .. size-1, size-2, size-3."""
    return size - 1 - jnp.abs(size - 1 - jnp.abs(position))


def cutout(
    key: jax.Array, image_HWC: jax.Array, *, side: int, fill: Sequence[int]
) -> jax.Array:
    """Fills a square with a random centre, clipped at the border (arXiv:1708.04552).

    The centre is a pixel of the image, so the square covers rows centre - side // 2
    to centre + side // 2 - 1, and at least a quarter of its area is inside.

    Args:
      side: pixels.
      fill: grey levels, one or one per channel.
    """
    H, W, _ = image_HWC.shape
    row, column = jnp.floor(jax.random.uniform(key, (2,)) * np.array([H, W]))
    half = side // 2
    box = (row - half, column - half, row + half, column + half)
    return rectangle(image_HWC, box, fill)


def rectangle(
    image_HWC: jax.Array, box: tuple[jax.Array, ...], fill: Sequence[int]
) -> jax.Array:
    """Fills rows top <= i < bottom and columns left <= j < right.

    Args:
      box: top, left, bottom, right in pixels; parts outside the image are ignored.
      fill: grey levels, one or one per channel.
    """
    H, W, C = image_HWC.shape
    top, left, bottom, right = box
    i_H11, j_1W1 = np.arange(H)[:, None, None], np.arange(W)[None, :, None]
    inside_H11 = (top <= i_H11) & (i_H11 < bottom)
    inside_1W1 = (left <= j_1W1) & (j_1W1 < right)
    color_HWC = np.broadcast_to(np.array(fill, np.uint8), (H, W, C))
    return jnp.where(inside_H11 & inside_1W1, color_HWC, image_HWC)


def plain(
    images_BHWC: jax.Array,
    *,
    side: int,
    resize: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> jax.Array:
    """Normalised float32 images for evaluation: resized, and their centre cut out.

    Args:
      side: pixels a side of the result; 0: as the images are.
      resize: pixels a side before the cut; 0: `side`.
    """
    if side:
        images_BHWC = 255 * jax.vmap(
            lambda image: crops.central(image, resize=resize or side, side=side)
        )(images_BHWC)
    return normalize(images_BHWC, mean, std)


def normalize(
    images_BHWC: jax.Array, mean: Sequence[float], std: Sequence[float]
) -> jax.Array:
    """(images - mean) / std as float32; mean and std in grey levels.

    Raises:
      UserError: mean or std is neither one value nor one per channel.
    """
    C = images_BHWC.shape[-1]
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, C):
            raise UserError(
                f"augment.{name} has {len(values)} values for images of {C} channels; "
                "give one value, or one per channel."
            )
    shape = (1,) * (images_BHWC.ndim - 1) + (-1,)
    mean, std = (np.array(v, np.float32).reshape(shape) for v in (mean, std))
    return (images_BHWC.astype(jnp.float32) - mean) / std


def grey_levels(
    plain: Callable[[jax.Array], jax.Array],
    shape: tuple[int, int, int],
    x_BHWC: jax.Array,
) -> jax.Array:
    """uint8 images of normalised ones of any size. Normalising is affine, so what
    `plain` makes of 0 and 255 tells how to undo it.

    Args:
      shape: (H, W, C) of images that `plain` takes.
    """
    black_111C, white_111C = (
        plain(jnp.full((1, *shape), level, jnp.uint8))[:, :1, :1] for level in (0, 255)
    )
    levels_BHWC = 255 * (x_BHWC - black_111C) / (white_111C - black_111C)
    return levels_BHWC.clip(0, 255).round().astype(jnp.uint8)


def scaled(x_BHWC: jax.Array, side: int) -> jax.Array:
    """Brought to `side` pixels on the shorter side, bilinearly and antialiased where
    they shrink; 0: as they are."""
    B, H, W, C = x_BHWC.shape
    if side in (0, min(H, W)):
        return x_BHWC
    height, width = (round(length * side / min(H, W)) for length in (H, W))
    return jax.image.resize(x_BHWC, (B, height, width, C), "bilinear")
