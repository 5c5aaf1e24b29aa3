"""RandAugment (arXiv:1909.13719) as FixMatch uses it, in two published protocols.

Everything here works on one uint8 image and is meant for `jax.vmap`, under which a
`lax.switch` over 14 operations would run all of them on every image. A slot, which
applies one operation, is instead three families with one cost each:

  warp      rotate, shear, translate: one affine map, nearest neighbour
  equalize  a table of 256 levels per channel
  level     all others: base + factor * (level - center) for every pixel, where base
            and center are black, a level, or what Pillow calls the degenerate image:
            the mean, the colourless or the smoothed image

On a CPU a family computes only the images that ask for it (`_where_asked`). The
arithmetic is that of Pillow, which both protocols call: 16.16 fixed point coordinates,
integer luma, truncation after a blend.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.augment import basic
from ssl_jax.core import UserError, num_devices

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
_WARPS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_ENHANCERS = ("color", "contrast", "brightness", "sharpness")
_LEVELS = ("autocontrast", "solarize", "posterize", *_ENHANCERS)


def _google_magnitudes() -> np.ndarray:
    """[operation, level 0..10], in the units of `slot`.

    google-research/fixmatch, third_party/auto_augment/augmentations.py, where
    float_parameter(level, most) = level * most / 10 and int_parameter truncates it.
    """
    L = np.arange(11)
    table = dict.fromkeys(OPERATIONS, 0 * L)
    table["rotate"] = 3 * L
    table["shear_x"] = table["shear_y"] = 0.03 * L
    table["translate_x"] = table["translate_y"] = L  # pixels, whatever the image's size
    table["solarize"] = 256 - 256 * L // 10
    table["posterize"] = 4 - 4 * L // 10
    for name in _ENHANCERS:
        table[name] = 0.1 + 0.18 * L
    return np.stack(list(table.values())).astype(np.float32)


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
    **dict.fromkeys(_ENHANCERS, (0.05, 0.95)),
}
_TORCHSSL_CUTOUT_COLOR = (125, 123, 114)  # the same file, `CutoutAbs`
_GREY = 127  # google-research/fixmatch: normalised 0; (127, 127, 127) in its `cutout`


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
    # One call for all draws: on a CPU each call is a loop of its own.
    which_S, level_S, sign_S, apply_S = jax.random.uniform(key, (4, num_slots))
    operation_S = jnp.floor(which_S * len(OPERATIONS)).astype(jnp.int32)
    level_S = 1 + jnp.floor(level_S * 9).astype(jnp.int32)
    magnitude_S = jnp.asarray(_google_magnitudes())[operation_S, level_S]
    negated_S = _is(operation_S, *_WARPS) & (sign_S < 0.5)
    magnitude_S = jnp.where(negated_S, -magnitude_S, magnitude_S)
    return jnp.where(apply_S < 0.5, operation_S, 0), magnitude_S


def randaugment_torchssl(key: jax.Array, image_HWC: jax.Array) -> jax.Array:
    """Three operations of 14, always applied, then cutout of U(0, 0.5) of the side.

    TorchSSL, datasets/augmentation/randaugment.py, `RandAugment(3, 5)`: operations
    with replacement, uniform magnitudes, black where a warp finds no pixel.
    """
    H, W, C = image_HWC.shape
    key_draw, key_cutout = jax.random.split(key)
    operation_S, magnitude_S = draw_torchssl(key_draw, (H, W))
    image_HWC = slots(image_HWC, operation_S, magnitude_S, fill=0)

    # `CutoutAbs`: a box that leaves the image at the top or left is moved inside, at
    # the bottom or right it is cut; Pillow's rectangle includes its last row.
    side, row, column = jax.random.uniform(key_cutout, (3,)) * np.array([W / 2, H, W])
    top = jnp.floor(jnp.maximum(row - side / 2, 0))
    left = jnp.floor(jnp.maximum(column - side / 2, 0))
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
    which_S, part_S = jax.random.uniform(key, (2, num_slots))
    operation_S = jnp.floor(which_S * len(OPERATIONS)).astype(jnp.int32)
    least_S, most_S = least[operation_S], most[operation_S]
    return operation_S, least_S + (most_S - least_S) * part_S


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
    C = image_HWC.shape[-1]

    # Unrolled, XLA would merge a slot into each of the many reads of the next one, and
    # compute it again for every one of them.
    def step(words_HW, drawn):
        return slot(words_HW, *drawn, num_channels=C, fill=fill), None

    words_HW = pack(image_HWC.transpose(2, 0, 1).astype(jnp.int32))
    words_HW, _ = jax.lax.scan(step, words_HW, (operation_S, magnitude_S))
    return unpack(words_HW, C).astype(jnp.uint8).transpose(1, 2, 0)


def pack(planes_CHW: jax.Array) -> jax.Array:
    """int32 pixels words_HW of 8 bits per channel: one gather moves a whole pixel."""
    return sum(plane_HW << 8 * c for c, plane_HW in enumerate(planes_CHW))


def unpack(words_HW: jax.Array, C: int) -> jax.Array:
    """The int32 grey levels planes_CHW of `pack`."""
    return (words_HW[None] >> 8 * np.arange(C)[:, None, None]) & 255


def slot(
    words_HW: jax.Array,
    operation: jax.Array,
    magnitude: jax.Array,
    *,
    num_channels: int,
    fill: int,
) -> jax.Array:
    """One operation on one packed image.

    Args:
      operation: an index into OPERATIONS.
      magnitude: rotate: degrees counter-clockwise. shear: the coefficient. translate:
        pixels, positive to the left and up. solarize: the grey level from which on
        levels are inverted. posterize: bits to keep, its fraction ignored. color,
        contrast, brightness, sharpness: the factor; 1 changes nothing. Others: unused.
      num_channels: C = 1 or 3.
      fill: the grey level where a warp finds no pixel.
    """

    def on_planes(family):
        return lambda words_HW, *drawn: pack(
            family(unpack(words_HW, num_channels), *drawn)
        )

    families = (
        (_WARPS, partial(_warp, fill=fill)),
        (("equalize",), on_planes(_equalize)),
        (_LEVELS, on_planes(_level)),
    )
    for names, family in families:
        asked = _is(operation, *names)
        words_HW = _where_asked(family)(asked, words_HW, operation, magnitude)
    return words_HW


_ROWS = 32  # images that a CPU computes at a time; 8 to 32 are equally quick


def _where_asked(family):
    """where(asked, family(image, *drawn), image), which under vmap may skip images.

    On a GPU, and over several devices (`jax.set_mesh`), every image is computed and
    those that did not ask keep what they were: no image leaves its device, and nothing
    waits for a count.
    A single CPU gathers the images that ask, `_ROWS` at a time, and computes no other.
    """

    def one(asked, image, *drawn):
        return jnp.where(asked, family(image, *drawn), image)

    def only_asked(asked_B, images, *drawn):
        B = asked_B.shape[0]
        rows = min(B, _ROWS)
        # Asked rows first, then B, which is no row: "drop" does not write there.
        order = jnp.nonzero(asked_B, size=-(-B // rows) * rows, fill_value=B)[0]

        def some(i, images):
            chosen = jax.lax.dynamic_slice_in_dim(order, i * rows, rows)
            taken = [x.at[chosen].get(mode="clip") for x in (images, *drawn)]
            return images.at[chosen].set(jax.vmap(family)(*taken), mode="drop")

        return jax.lax.fori_loop(0, -(-asked_B.sum() // rows), some, images)

    def batched(B, is_batched, *args):
        args = [
            x if has_rows else jnp.broadcast_to(x, (B, *x.shape))
            for x, has_rows in zip(args, is_batched, strict=True)
        ]
        if num_devices() > 1:
            return jax.vmap(one)(*args), True
        out = jax.lax.platform_dependent(*args, cpu=only_asked, default=jax.vmap(one))
        return out, True

    function = jax.custom_batching.custom_vmap(one)
    function.def_vmap(batched)
    return function


def _is(operation: jax.Array, *names: str) -> jax.Array:
    """Whether the operation is one of `names`."""
    hit = operation == OPERATIONS.index(names[0])
    for name in names[1:]:
        hit |= operation == OPERATIONS.index(name)
    return hit


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


def _equalize(planes_CHW: jax.Array, *_) -> jax.Array:
    """ImageOps.equalize: level -> (step // 2 + pixels of lower levels) // step.

    A step is 1/255 of the pixels below the highest level; a channel with fewer than
    255 of them stays as it is.
    """
    C, H, W = planes_CHW.shape
    planes_CN = planes_CHW.reshape(C, H * W)
    index_CN = planes_CN + 256 * np.arange(C)[:, None]
    counts_CV = jnp.zeros(C * 256, jnp.int32).at[index_CN].add(1).reshape(C, 256)
    # A product with a triangle of ones is the quickest cumulative sum of this size,
    # and exact: float32 holds counts up to 2^24, if it is not rounded to TF32.
    lower_CV = jnp.matmul(
        counts_CV.astype(jnp.float32),
        np.triu(np.ones((256, 256), np.float32), 1),
        precision=jax.lax.Precision.HIGHEST,
    )
    lower_CN = lower_CV.reshape(-1).at[index_CN].get(mode="promise_in_bounds")
    step_C1 = lower_CN.max(1, keepdims=True) // 255
    divisor_C1 = jnp.maximum(step_C1, 1)
    # Half a unit more keeps exact quotients from falling below themselves.
    equal_CN = (divisor_C1 // 2 + lower_CN + 0.5) / divisor_C1
    equal_CN = jnp.minimum(equal_CN, 255).astype(jnp.int32)
    return jnp.where(step_C1 > 0, equal_CN, planes_CN).reshape(C, H, W)


def _level(
    planes_CHW: jax.Array, operation: jax.Array, magnitude: jax.Array
) -> jax.Array:
    """base + factor * (level - center), truncated; posterize and solarize before it."""
    # All pixels in one row: a CPU's vector loops then run over N = H W and not over W.
    C, H, W = planes_CHW.shape
    N = H * W
    planes_CN = planes_CHW.reshape(C, N)

    # ImageOps: posterize drops low bits, solarize inverts the high levels.
    bits = jnp.where(_is(operation, "posterize"), magnitude, 8.0)
    dropped = jnp.clip(8 - bits.astype(jnp.int32), 0, 8)
    levels_CN = planes_CN >> dropped << dropped
    threshold = jnp.where(_is(operation, "solarize"), magnitude, 256.0)
    levels_CN = jnp.where(levels_CN < threshold, levels_CN, 255 - levels_CN)

    # ImageEnhance: degenerate + factor * (level - degenerate).
    luma_N = _luma(planes_CN) if C == 3 else planes_CN[0]
    mean = (2 * luma_N.sum() + N) // (2 * N)  # rounded
    center_CN = jnp.where(_is(operation, "contrast"), mean, 0)
    center_CN = jnp.where(_is(operation, "color"), luma_N[None], center_CN)
    smooth_CN = _smooth(planes_CN, W)
    center_CN = jnp.where(_is(operation, "sharpness"), smooth_CN, center_CN)
    base_CN = center_CN
    factor = jnp.where(_is(operation, *_ENHANCERS), magnitude, 1.0)

    # ImageOps.autocontrast: 255 * (level - lowest) // (highest - lowest). The
    # thousandth keeps exact quotients from falling below themselves.
    lowest_C1 = planes_CN.min(1, keepdims=True)
    range_C1 = planes_CN.max(1, keepdims=True) - lowest_C1
    stretches_C1 = _is(operation, "autocontrast") & (range_C1 > 0)
    base_CN = jnp.where(stretches_C1, 0, base_CN)
    center_CN = jnp.where(stretches_C1, lowest_C1, center_CN)
    factor_C1 = jnp.where(stretches_C1, 255.001 / jnp.maximum(range_C1, 1), factor)

    out_CN = base_CN + factor_C1 * (levels_CN - center_CN)
    return jnp.clip(out_CN, 0, 255).astype(jnp.int32).reshape(C, H, W)


def _luma(rgb) -> jax.Array:
    """Pillow's L (src/libImaging/Convert.c): ITU-R 601-2 in 16 bits, rounded."""
    red, green, blue = rgb
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


def _smooth(planes_CN: jax.Array, W: int) -> jax.Array:
    """ImageFilter.SMOOTH: (3x3 sum + 4 x centre) / 13, rounded; the border copied.

    Sums run over the row of all pixels; those that reach around a border are dropped.
    """
    N = planes_CN.shape[1]
    columns = sum(planes_CN[:, i : i + N - 2 * W] for i in (0, W, 2 * W))
    box = sum(columns[:, j : j + N - 2 * W - 2] for j in range(3))
    center = planes_CN[:, W + 1 : N - W - 1]
    smooth = ((box + 4 * center) / 13 + 0.5).astype(jnp.int32)
    inner_HW = np.pad(np.ones((N // W - 2, W - 2), bool), 1)
    smooth_CN = jnp.pad(smooth, ((0, 0), (W + 1, W + 1)))
    return jnp.where(inner_HW.reshape(1, N), smooth_CN, planes_CN)
