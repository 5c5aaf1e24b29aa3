"""Colour jitter, grey, blur and solarize: one float32 image in [0, 1] each, C = 1 or 3.

Use `jax.vmap` for a batch, with one key per image. The arithmetic is torchvision's on
float tensors; with one channel there is no saturation, hue or grey.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.errors import UserError

OPERATIONS = ("brightness", "contrast", "saturation", "hue")
_CONTRAST, _SATURATION, _HUE = 1, 2, 3
_LUMA = (0.2989, 0.587, 0.114)  # torchvision's rgb_to_grayscale


def jitter(
    key: jax.Array,
    image_HWC: jax.Array,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.2,
    hue: float = 0.1,
) -> jax.Array:
    """torchvision's `ColorJitter`; the defaults are BYOL's (arXiv:2006.07733, B).

    Args: as `draw`.

    Raises:
      UserError: as `draw`.
    """
    drawn = draw(
        key, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue
    )
    return jittered(image_HWC, *drawn)


def draw(
    key: jax.Array, *, brightness: float, contrast: float, saturation: float, hue: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(order_4, factor_3, hue_shift) for `jittered`.

    Args:
      brightness, contrast, saturation: x gives a factor of U[max(0, 1 - x), 1 + x].
      hue: x gives a shift of U[-x, x] circles.

    Raises:
      UserError: a strength is negative, or hue above half a circle.
    """
    strengths = (brightness, contrast, saturation, hue)
    if min(strengths) < 0 or hue > 0.5:
        given = ", ".join(
            f"{n}={s}" for n, s in zip(OPERATIONS, strengths, strict=True)
        )
        raise UserError(
            f"jitter of {given}: use 0 or more for each, and at most 0.5 (half of the "
            "circle) for hue."
        )
    least_4 = np.array([*(max(0, 1 - x) for x in strengths[:3]), -hue], np.float32)
    most_4 = np.array([*(1 + x for x in strengths[:3]), hue], np.float32)
    # One call for all draws: on a CPU each call is a loop of its own.
    part_4, rank_4 = jax.random.uniform(key, (2, 4))
    value_4 = least_4 + (most_4 - least_4) * part_4
    return jnp.argsort(rank_4), value_4[:3], value_4[3]


def jittered(
    image_HWC: jax.Array, order_4: jax.Array, factor_3: jax.Array, hue_shift: jax.Array
) -> jax.Array:
    """The four operations one after the other, each clipped to [0, 1].

    Under vmap a `lax.switch` would run all four at each of the four places. Three of
    them are one blend with another target, so there are three places for them before
    the hue and three after it, of which three are the identity: one hue for an image.

    Args:
      order_4: indices into OPERATIONS, the first to apply first.
      factor_3: of brightness, contrast and saturation; 1 changes nothing.
      hue_shift: in circles; 0 changes nothing.
    """
    H, W, C = image_HWC.shape
    # All pixels of a channel in one row: a CPU's vector loops run over them.
    planes_CN = image_HWC.reshape(H * W, C).T
    if C == 1:  # nothing stands between the blends
        factor_3 = jnp.where(np.arange(3) == _SATURATION, 1, factor_3)

    place = jnp.argmax(order_4 == _HUE)  # as many blends come before the hue
    i_3 = np.arange(3)
    blend_3 = order_4[i_3 + (i_3 >= place)]
    factor_3 = factor_3[blend_3]

    # Unrolled, XLA would compute a blend again for each of the many reads by the next.
    def blends(planes_CN, acts_3):
        drawn = (blend_3, jnp.where(acts_3, factor_3, 1))
        return jax.lax.scan(_blend, planes_CN, drawn)[0]

    if C == 1:
        planes_CN = blends(planes_CN, True)
    else:
        planes_CN = blends(planes_CN, i_3 < place)
        turned_CN = _turn_hue(planes_CN, hue_shift)
        planes_CN = jnp.where(hue_shift == 0, planes_CN, turned_CN)
        planes_CN = blends(planes_CN, i_3 >= place)
    return planes_CN.T.reshape(H, W, C)


def _blend(
    planes_CN: jax.Array, drawn: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, None]:
    """f x + (1 - f) target: black, the mean of the grey image, or the grey image."""
    operation, factor = drawn
    grey_N = _luma(planes_CN)
    target_N = jnp.where(operation == _CONTRAST, grey_N.mean(), 0)
    target_N = jnp.where(operation == _SATURATION, grey_N, target_N)
    blend_CN = factor * planes_CN + (1 - factor) * target_N[None, :]
    return jnp.clip(blend_CN, 0, 1), None


def _turn_hue(planes_CN: jax.Array, shift: jax.Array) -> jax.Array:
    """RGB -> HSV, hue + shift, -> RGB.

    With value V = max and chroma = max - min, a channel is V - chroma * g(k), where
    k = (n + 6 hue) mod 6, g(k) = clip(min(k, 4 - k), 0, 1) and n = 5, 3, 1 for red,
    green and blue: the hexagon of HSV written without its six cases.
    """
    red, green, blue = planes_CN
    value_N = jnp.maximum(jnp.maximum(red, green), blue)
    chroma_N = value_N - jnp.minimum(jnp.minimum(red, green), blue)
    divisor_N = jnp.where(chroma_N == 0, 1, chroma_N)  # grey has no hue
    sextant_N = jnp.where(
        value_N == red,
        (green - blue) / divisor_N,
        jnp.where(
            value_N == green,
            2 + (blue - red) / divisor_N,
            4 + (red - green) / divisor_N,
        ),
    )
    k_CN = sextant_N[None, :] + 6 * shift + np.array([5, 3, 1], np.float32)[:, None]
    k_CN = k_CN - 6 * jnp.floor(k_CN / 6)
    part_CN = jnp.clip(jnp.minimum(k_CN, 4 - k_CN), 0, 1)
    return value_N[None, :] - chroma_N[None, :] * part_CN


def _luma(planes_CN: jax.Array) -> jax.Array:
    """The grey level. Three terms: a matrix product would be TF32 on a GPU."""
    if planes_CN.shape[0] == 1:
        return planes_CN[0]
    red, green, blue = planes_CN
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def grey(image_HWC: jax.Array) -> jax.Array:
    """0.2989 red + 0.587 green + 0.114 blue in every channel."""
    if image_HWC.shape[-1] == 1:
        return image_HWC
    grey_HW = _luma(image_HWC.transpose(2, 0, 1))
    return jnp.broadcast_to(grey_HW[:, :, None], image_HWC.shape)


def blur_kernel_size(side: int) -> int:
    """BYOL's, a tenth of the side: 2 * (side // 10 // 2) + 1 pixels, at least 3.

    deepmind-research/byol, utils/augmentations.py: 23 pixels for a side of 224.
    """
    return 2 * max(1, side // 10 // 2) + 1


def blur(
    key: jax.Array,
    image_HWC: jax.Array,
    *,
    sigma: tuple[float, float] = (0.1, 2.0),
    kernel_size: int,
) -> jax.Array:
    """Gaussian blur of uniform sigma, in pixels; `blurred` for the rest."""
    drawn = jax.random.uniform(key, minval=sigma[0], maxval=sigma[1])
    return blurred(image_HWC, drawn, kernel_size=kernel_size)


def blurred(image_HWC: jax.Array, sigma: jax.Array, *, kernel_size: int) -> jax.Array:
    """A separable Gaussian of kernel_size pixels; the border reflects (torchvision).

    (BYOL's own code pads with zeros, which darkens the border.)

    Raises:
      UserError: the kernel is even, or reaches further than a reflection can.
    """
    H, W, C = image_HWC.shape
    radius = kernel_size // 2
    if kernel_size % 2 == 0 or not radius < min(H, W):
        raise UserError(
            f"a blur of kernel_size={kernel_size} does not fit {H}x{W} images: use an "
            f"odd size of at most {2 * min(H, W) - 1}."
        )
    weight_T = jnp.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weight_T = weight_T / weight_T.sum()
    # Rows shifted and added, columns by a product with a banded matrix. On a CPU shifts
    # on both axes take half the time at 32x32, where it is little, but 3 times as
    # much at 64x64 (experiments/results/views_speed.jsonl).
    rows = jnp.pad(image_HWC, ((radius, radius), (0, 0), (0, 0)), mode="reflect")
    rows = rows.reshape(H + 2 * radius, W * C)
    rows = sum(weight_T[t] * rows[t : t + H] for t in range(kernel_size))
    return jnp.einsum(
        "vw,hwc->hvc",
        banded(weight_T, W),
        rows.reshape(H, W, C),
        precision=jax.lax.Precision.HIGHEST,  # not TF32
    )


def banded(weight_T: jax.Array, size: int) -> jax.Array:
    """[size, size]: what each output takes from each pixel, reflections added up."""
    radius = weight_T.shape[0] // 2
    index_N = np.arange(size)
    padded = np.pad(index_N, radius, mode="reflect")  # the pixel at each place
    return sum(
        weight * (padded[t : t + size, None] == index_N[None, :])
        for t, weight in enumerate(weight_T)
    )


def solarize(image_HWC: jax.Array, threshold: float = 0.5) -> jax.Array:
    """Inverts from the threshold on: x where x < threshold, else 1 - x."""
    return jnp.where(image_HWC < threshold, image_HWC, 1 - image_HWC)


def with_probability(
    key: jax.Array,
    p: float,
    operation: Callable[[jax.Array], jax.Array],
    image_HWC: jax.Array,
) -> jax.Array:
    """operation(image_HWC) with probability p, else image_HWC.

    Under vmap the operation runs on every image, but p = 0 costs nothing.

    Raises:
      UserError: p is not a probability.
    """
    if not 0 <= p <= 1:
        raise UserError(f"p={p} is not a probability: use 0 to 1.")
    if p == 0:
        return image_HWC
    if p == 1:
        return operation(image_HWC)
    return jnp.where(jax.random.bernoulli(key, p), operation(image_HWC), image_HWC)
