"""RandAugment (arXiv:1909.13719) as FixMatch uses it, in two published protocols.

Everything here works on one uint8 image and is meant for `jax.vmap`, under which a
`lax.switch` over 14 operations would run all of them on every image. A slot, which
applies one operation, is instead four families with one cost each:

  warp      rotate, shear, translate: one affine map, nearest neighbour
  equalize  a table of 256 levels per channel
  point     autocontrast, solarize, posterize: arithmetic on a grey level
  blend     brightness, contrast, color, sharpness: towards or away from a
            "degenerate" image, which is black, grey, colourless or smooth

The arithmetic is that of Pillow, which both protocols call: 16.16 fixed point
coordinates, integer luma, truncation after a blend.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.augment import basic
from ssl_jax.core import UserError

# In the order of RANDOM_POLICY_OPS in google-research/fixmatch, libml/augment.py.
OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "translate_x",
    "translate_y",
    "posterize",
    "shear_y",
)


def _google_magnitudes() -> np.ndarray:
    """[operation, level 0..10], in the units of `slot`.

    google-research/fixmatch, third_party/auto_augment/augmentations.py, where
    float_parameter(level, most) = level * most / 10 and int_parameter truncates it.
    """
    level = np.arange(11)
    enhance = 0.1 + 1.8 * level / 10
    magnitudes = {
        "rotate": 30 * level // 10,
        "shear_x": 0.3 * level / 10,
        "shear_y": 0.3 * level / 10,
        "translate_x": level,  # int_parameter(level, 10): pixels at any image size
        "translate_y": level,
        "solarize": 256 - 256 * level // 10,
        "posterize": 4 - 4 * level // 10,
        "color": enhance,
        "contrast": enhance,
        "brightness": enhance,
        "sharpness": enhance,
    }
    none = np.zeros(11)
    table = np.stack([magnitudes.get(name, none) for name in OPERATIONS])
    return table.astype(np.float32)


# TorchSSL, datasets/augmentation/randaugment.py, `augment_list`: (least, most).
# Translations are parts of the side.
_TORCHSSL_RANGES = {
    "rotate": (-30, 30),
    "shear_x": (-0.3, 0.3),
    "shear_y": (-0.3, 0.3),
    "translate_x": (-0.3, 0.3),
    "translate_y": (-0.3, 0.3),
    "solarize": (0, 256),
    "posterize": (4, 8),
    "color": (0.05, 0.95),
    "contrast": (0.05, 0.95),
    "brightness": (0.05, 0.95),
    "sharpness": (0.05, 0.95),
}
_TORCHSSL_CUTOUT_COLOR = (125, 123, 114)  # the same file, `CutoutAbs`
_GREY = 127  # the same repository as above: normalised 0, and cutout's (127, 127, 127)


def randaugment_google(key: jax.Array, image_HWC: jax.Array) -> jax.Array:
    """Two operations of 14, each applied with p 0.5, then cutout of half the side.

    google-research/fixmatch, libml/augment.py, `AugmentPoolRAMC2`: operations with
    replacement, level 1..9. There a warp leaves transparent pixels that become grey
    in the end; here they are grey at once.
    """
    H, W, _ = image_HWC.shape
    key_draw, key_cutout = jax.random.split(key)
    operation_S, magnitude_S = draw_google(key_draw)
    image_HWC = slots(image_HWC, operation_S, magnitude_S, fill=_GREY)
    return basic.cutout(key_cutout, image_HWC, side=min(H, W) // 2, fill=(_GREY,))


def draw_google(key: jax.Array, num_slots: int = 2) -> tuple[jax.Array, jax.Array]:
    """(operation_S int32, magnitude_S float32); "identity" where p says not applied."""
    key_operation, key_level, key_sign, key_apply = jax.random.split(key, 4)
    operation_S = jax.random.randint(key_operation, (num_slots,), 0, len(OPERATIONS))
    level_S = jax.random.randint(key_level, (num_slots,), 1, 10)
    sign_S = jax.random.rademacher(key_sign, (num_slots,), jnp.float32)
    apply_S = jax.random.bernoulli(key_apply, 0.5, (num_slots,))
    magnitude_S = jnp.asarray(_google_magnitudes())[operation_S, level_S]
    signed_S = _is(operation_S, *_WARPS)
    magnitude_S = jnp.where(signed_S, sign_S * magnitude_S, magnitude_S)
    return jnp.where(apply_S, operation_S, 0), magnitude_S


def randaugment_torchssl(key: jax.Array, image_HWC: jax.Array) -> jax.Array:
    """Three operations of 14, always applied, then cutout of U(0, 0.5) of the side.

    TorchSSL, datasets/augmentation/randaugment.py, `RandAugment(3, 5)`: operations
    with replacement, uniform magnitudes, black where a warp finds no pixel.
    """
    H, W, C = image_HWC.shape
    key_draw, key_side, key_corner = jax.random.split(key, 3)
    operation_S, magnitude_S = draw_torchssl(key_draw, (H, W))
    image_HWC = slots(image_HWC, operation_S, magnitude_S, fill=0)

    # `CutoutAbs`: a box that leaves the image at the top or left is moved inside, at
    # the bottom or right it is cut; Pillow's rectangle includes its last row.
    side = jax.random.uniform(key_side, maxval=0.5) * W
    center_2 = jax.random.uniform(key_corner, (2,)) * jnp.array([H, W])
    top, left = jnp.floor(jnp.maximum(center_2 - side / 2, 0))
    box = (top, left, jnp.floor(top + side) + 1, jnp.floor(left + side) + 1)
    color = _TORCHSSL_CUTOUT_COLOR if C == 3 else (int(_luma(_TORCHSSL_CUTOUT_COLOR)),)
    return basic.rectangle(image_HWC, box, color)


def draw_torchssl(
    key: jax.Array, size: tuple[int, int], num_slots: int = 3
) -> tuple[jax.Array, jax.Array]:
    """(operation_S int32, magnitude_S float32) for images of `size` = (H, W)."""
    H, W = size
    side = {"translate_x": W, "translate_y": H}
    ranges = [
        np.multiply(_TORCHSSL_RANGES.get(name, (0, 0)), side.get(name, 1))
        for name in OPERATIONS
    ]
    least, most = jnp.asarray(np.array(ranges, np.float32).T)
    key_operation, key_magnitude = jax.random.split(key)
    operation_S = jax.random.randint(key_operation, (num_slots,), 0, len(OPERATIONS))
    magnitude_S = jax.random.uniform(
        key_magnitude,
        (num_slots,),
        minval=least[operation_S],
        maxval=most[operation_S],
    )
    return operation_S, magnitude_S


def apply(
    name: str, image_HWC: jax.Array, magnitude: float | jax.Array = 0, *, fill: int = 0
) -> jax.Array:
    """One operation on one uint8 image; magnitudes as in `slot`.

    Raises:
      UserError: there is no such operation.
    """
    if name not in OPERATIONS:
        raise UserError(f"no operation {name!r}; there are: {', '.join(OPERATIONS)}.")
    operation_1 = jnp.array([OPERATIONS.index(name)])
    magnitude_1 = jnp.asarray(magnitude, jnp.float32).reshape(1)
    return slots(image_HWC, operation_1, magnitude_1, fill=fill)


def slots(
    image_HWC: jax.Array, operation_S: jax.Array, magnitude_S: jax.Array, *, fill: int
) -> jax.Array:
    """S operations one after the other on one uint8 image, C = 1 or 3."""

    def step(planes_CHW, drawn):
        return slot(planes_CHW, *drawn, fill=fill), None

    # Unrolled, XLA would merge a slot into each of the many reads of the next one and
    # compute it again for every one of them: 10 times slower on a CPU.
    planes_CHW = image_HWC.transpose(2, 0, 1).astype(jnp.int32)
    planes_CHW, _ = jax.lax.scan(step, planes_CHW, (operation_S, magnitude_S))
    return planes_CHW.astype(jnp.uint8).transpose(1, 2, 0)


def slot(
    planes_CHW: jax.Array, operation: jax.Array, magnitude: jax.Array, *, fill: int
) -> jax.Array:
    """One operation on one image, int32 grey levels 0..255; C = 1 or 3.

    Args:
      operation: an index into OPERATIONS.
      magnitude: rotate: degrees counter-clockwise. shear: the coefficient. translate:
        pixels, positive to the left and up. solarize: the grey level from which on
        levels are inverted. posterize: bits to keep, its fraction ignored. color,
        contrast, brightness, sharpness: the factor; 1 changes nothing. Others: unused.
      fill: the grey level where a warp finds no pixel.
    """
    # All families read the slot's input, so none waits for another.
    words_HW = _pack(planes_CHW)
    moved_HW = jnp.where(
        _is(operation, *_WARPS),
        _warp(words_HW, operation, magnitude, fill),
        jnp.where(_is(operation, "equalize"), _equalize(planes_CHW), words_HW),
    )
    out_CHW = _unpack(moved_HW, planes_CHW.shape[0])
    for names, family in ((_POINTS, _point), (_BLENDS, _blend)):
        changed_CHW = family(planes_CHW, operation, magnitude)
        out_CHW = jnp.where(_is(operation, *names), changed_CHW, out_CHW)
    return out_CHW


_WARPS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_POINTS = ("autocontrast", "solarize", "posterize")
_BLENDS = ("brightness", "contrast", "color", "sharpness")


def _is(operation: jax.Array, *names: str) -> jax.Array:
    """Whether the operation is one of `names`."""
    hit = operation == OPERATIONS.index(names[0])
    for name in names[1:]:
        hit |= operation == OPERATIONS.index(name)
    return hit


def _pack(planes_CHW: jax.Array) -> jax.Array:
    """int32 words_HW of 8 bits per channel: one gather moves a whole pixel."""
    return sum(plane_HW << 8 * c for c, plane_HW in enumerate(planes_CHW))


def _unpack(words_HW: jax.Array, C: int) -> jax.Array:
    return (words_HW[None] >> 8 * np.arange(C)[:, None, None]) & 255


def _warp(
    words_HW: jax.Array, operation: jax.Array, magnitude: jax.Array, fill: int
) -> jax.Array:
    """Output pixel (x, y) is input pixel (a x + b y + c, d x + a y + f), rounded down.

    Pillow's `affine_fixed` (src/libImaging/Geometry.c): coefficients in 16.16 fixed
    point, pixel centres at 1/2. `Image.rotate` turns about the centre of the image.
    """
    H, W = words_HW.shape

    def when(name, value, otherwise):
        return jnp.where(_is(operation, name), value, otherwise)

    radians = jnp.deg2rad(when("rotate", magnitude, 0.0))
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    b = when("shear_x", magnitude, -sin)
    d = when("shear_y", magnitude, sin)
    x0 = when("rotate", W / 2 - cos * (W / 2) + sin * (H / 2), 0.0)
    y0 = when("rotate", H / 2 - sin * (W / 2) - cos * (H / 2), 0.0)
    c = when("translate_x", magnitude, x0) + (cos + b) / 2
    f = when("translate_y", magnitude, y0) + (d + cos) / 2

    a, b, c, d, f = (_fixed_point(v) for v in (cos, b, c, d, f))
    x_1W, y_H1 = np.arange(W)[None, :], np.arange(H)[:, None]
    x_HW = (a * x_1W + b * y_H1 + c) >> 16
    y_HW = (d * x_1W + a * y_H1 + f) >> 16
    inside_HW = (x_HW >= 0) & (x_HW < W) & (y_HW >= 0) & (y_HW < H)
    index_HW = jnp.where(inside_HW, y_HW * W + x_HW, 0)
    warped_HW = words_HW.reshape(-1).at[index_HW].get(mode="promise_in_bounds")
    return jnp.where(inside_HW, warped_HW, fill * 0x010101)


def _fixed_point(value: jax.Array) -> jax.Array:
    return jnp.floor(value * 65536 + 0.5).astype(jnp.int32)


def _equalize(planes_CHW: jax.Array) -> jax.Array:
    """ImageOps.equalize: level -> (step // 2 + pixels of lower levels) // step.

    A step is 1/255 of the pixels below the highest level; a channel with fewer than
    255 of them stays as it is. Returns words_HW.
    """
    C, H, W = planes_CHW.shape
    index_CHW = planes_CHW + 256 * np.arange(C)[:, None, None]
    counts_CV = jnp.zeros(C * 256, jnp.int32).at[index_CHW].add(1).reshape(C, 256)
    # A product with a triangle of ones is the quickest cumulative sum of this size,
    # and exact: float32 holds counts up to 2^24, if it is not rounded to TF32.
    lower_CV = jnp.matmul(
        counts_CV.astype(jnp.float32),
        np.triu(np.ones((256, 256), np.float32), 1),
        precision=jax.lax.Precision.HIGHEST,
    )
    step_C1 = lower_CV[np.arange(C), planes_CHW.max((1, 2))][:, None] // 255
    divisor_C1 = jnp.maximum(step_C1, 1)
    # Half a unit more keeps exact quotients from falling below themselves.
    table_CV = (divisor_C1 // 2 + lower_CV + 0.5) / divisor_C1
    table_CV = jnp.minimum(table_CV, 255).astype(jnp.int32)
    table_CV = jnp.where(step_C1 > 0, table_CV, np.arange(256)[None])
    looked_up = [
        table_CV[c].at[planes_CHW[c]].get(mode="promise_in_bounds") for c in range(C)
    ]
    return _pack(looked_up)


def _point(
    planes_CHW: jax.Array, operation: jax.Array, magnitude: jax.Array
) -> jax.Array:
    """Autocontrast, solarize and posterize of PIL.ImageOps."""
    # Autocontrast: the lowest and highest level become 0 and 255, the rest is rounded
    # down. 1/510 keeps exact quotients from falling below themselves.
    lowest_C11 = planes_CHW.min((1, 2), keepdims=True)
    highest_C11 = planes_CHW.max((1, 2), keepdims=True)
    scale_C11 = 255 / jnp.maximum(highest_C11 - lowest_C11, 1)
    stretched_CHW = ((planes_CHW - lowest_C11) * scale_C11 + 1 / 510).astype(jnp.int32)
    stretched_CHW = jnp.where(highest_C11 > lowest_C11, stretched_CHW, planes_CHW)

    solarized_CHW = jnp.where(planes_CHW < magnitude, planes_CHW, 255 - planes_CHW)

    dropped_bits = jnp.clip(8 - magnitude.astype(jnp.int32), 0, 8)
    posterized_CHW = planes_CHW >> dropped_bits << dropped_bits

    out_CHW = jnp.where(_is(operation, "solarize"), solarized_CHW, stretched_CHW)
    return jnp.where(_is(operation, "posterize"), posterized_CHW, out_CHW)


def _blend(
    planes_CHW: jax.Array, operation: jax.Array, magnitude: jax.Array
) -> jax.Array:
    """PIL.ImageEnhance: degenerate + factor * (image - degenerate), truncated."""
    C, H, W = planes_CHW.shape
    luma_HW = _luma(planes_CHW) if C == 3 else planes_CHW[0]
    mean = (2 * luma_HW.sum() + H * W) // (2 * H * W)  # rounded
    degenerate_CHW = jnp.where(_is(operation, "sharpness"), _smooth(planes_CHW), 0)
    for name, degenerate in (("contrast", mean), ("color", luma_HW[None])):
        degenerate_CHW = jnp.where(_is(operation, name), degenerate, degenerate_CHW)
    blended_CHW = degenerate_CHW + magnitude * (planes_CHW - degenerate_CHW)
    return jnp.clip(blended_CHW, 0, 255).astype(jnp.int32)


def _luma(rgb) -> jax.Array:
    """Pillow's L (src/libImaging/Convert.c): ITU-R 601-2 in 16 bits, rounded."""
    red, green, blue = rgb
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


def _smooth(planes_CHW: jax.Array) -> jax.Array:
    """ImageFilter.SMOOTH: (3x3 sum + 4 x centre) / 13, rounded; the border copied."""
    _, H, W = planes_CHW.shape
    rows = sum(planes_CHW[:, i : H - 2 + i] for i in range(3))
    box = sum(rows[:, :, j : W - 2 + j] for j in range(3))
    smooth = ((box + 4 * planes_CHW[:, 1:-1, 1:-1]) / 13 + 0.5).astype(jnp.int32)
    inner_HW = np.pad(np.ones((H - 2, W - 2), bool), 1)
    smooth_CHW = jnp.pad(smooth, ((0, 0), (1, 1), (1, 1)))
    return jnp.where(inner_HW[None], smooth_CHW, planes_CHW)
