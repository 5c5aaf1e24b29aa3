"""The operations of RandAugment and CTAugment on one uint8 image.

They are meant for `jax.vmap`, under which a `lax.switch` over 19 operations would run
all of them on every image. A slot, which applies one operation, is instead a few
families with one cost each. RandAugment's are

  warp      rotate, shear, translate: one affine map, nearest neighbour
  equalize  a table of 256 levels per channel
  level     all others: base + factor * (level - center) for every pixel, where base
            and center are black, a level, or what Pillow calls the degenerate image:
            the mean, the colourless or the smoothed image

and CTAugment's, which blends some of these with the image and has a few more, are in
`ctaugment_operations.py`. On a CPU a family computes only the images that ask for it
(`_where_asked`). The arithmetic is that of Pillow, which the published codes call:
16.16 fixed point coordinates, integer luma, truncation after a blend.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.core import num_devices
from ssl_jax.errors import UserError

OPERATIONS = (
    # RandAugment's, in the order of RANDOM_POLICY_OPS in google-research/fixmatch,
    # libml/augment.py.
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
    # What CTAugment has beyond them (libml/ctaugment.py).
    "invert",
    "smooth",
    "blur",
    "rescale",
    "cutout",
)
WARPS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
ENHANCERS = ("color", "contrast", "brightness", "sharpness")
LEVELS = ("autocontrast", "solarize", "posterize", *ENHANCERS)


def apply(
    name: str, image_HWC: jax.Array, magnitude: float | jax.Array = 0, *, fill: int = 0
) -> jax.Array:
    """One operation of RandAugment on one uint8 image; magnitudes as in
    `randaugment_families`.

    Raises:
      UserError: there is no such operation.
    """
    known = ("identity", *WARPS, "equalize", *LEVELS)
    if name not in known:
        raise UserError(f"no operation {name!r}; there are: {', '.join(known)}.")
    operation_1 = jnp.array([OPERATIONS.index(name)])
    magnitude_1 = jnp.asarray(magnitude, jnp.float32).reshape(1)
    drawn = (operation_1, magnitude_1)
    families = randaugment_families(image_HWC.shape[-1], fill=fill)
    return slots(image_HWC, drawn, families)


def slots(image_HWC: jax.Array, drawn, families) -> jax.Array:
    """S operations one after the other on one uint8 image, C = 1 or 3.

    Args:
      drawn: arrays of S rows: indices into OPERATIONS, then what the families take.
      families: (names, family(words_HW, operation, *rest) -> words_HW) of one cost
        each, on packed images.
    """
    C = image_HWC.shape[-1]

    # Unrolled, XLA would merge a slot into each of the many reads of the next one, and
    # compute it again for every one of them.
    def step(words_HW, drawn):
        for names, family in families:
            asked = is_one(drawn[0], *names)
            words_HW = _where_asked(family)(asked, words_HW, *drawn)
        return words_HW, None

    words_HW = pack(image_HWC.transpose(2, 0, 1).astype(jnp.int32))
    words_HW, _ = jax.lax.scan(step, words_HW, drawn)
    return unpack(words_HW, C).astype(jnp.uint8).transpose(1, 2, 0)


def randaugment_families(C: int, *, fill: int):
    """RandAugment's families for `slots`; they take an operation and its magnitude.

    Magnitudes are: rotate: degrees counter-clockwise. shear: the coefficient.
    translate: pixels, positive to the left and up. solarize: the grey level from which
    on levels are inverted. posterize: bits to keep, its fraction ignored. color,
    contrast, brightness, sharpness: the factor; 1 changes nothing. Others: unused.

    Args:
      C: channels, 1 or 3.
      fill: the grey level where a warp finds no pixel.
    """
    return (
        (WARPS, partial(warp, fill=fill)),
        (("equalize",), on_planes(equalize, C)),
        (LEVELS, on_planes(level, C)),
    )


def on_planes(family, C: int):
    """A family on planes_CHW as one on packed images."""
    return lambda words_HW, *drawn: pack(family(unpack(words_HW, C), *drawn))


def pack(planes_CHW: jax.Array) -> jax.Array:
    """int32 pixels words_HW of 8 bits per channel: one gather moves a whole pixel."""
    return sum(plane_HW << 8 * c for c, plane_HW in enumerate(planes_CHW))


def unpack(words_HW: jax.Array, C: int) -> jax.Array:
    """The int32 grey levels planes_CHW of `pack`."""
    return (words_HW[None] >> 8 * np.arange(C)[:, None, None]) & 255


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


def is_one(operation: jax.Array, *names: str) -> jax.Array:
    """Whether the operation is one of `names`."""
    hit = operation == OPERATIONS.index(names[0])
    for name in names[1:]:
        hit |= operation == OPERATIONS.index(name)
    return hit


def warp(
    words_HW: jax.Array, operation: jax.Array, magnitude: jax.Array, fill: int
) -> jax.Array:
    """Output pixel (x, y) is input pixel (a x + b y + c, d x + a y + f), rounded down.

    Pillow's `affine_fixed` (src/libImaging/Geometry.c): coefficients in 16.16 fixed
    point, pixel centres at 1/2. `Image.rotate` turns about the centre of the image.
    """
    H, W = words_HW.shape

    def when(name, value, otherwise):
        return jnp.where(is_one(operation, name), value, otherwise)

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


def equalize(planes_CHW: jax.Array, *_) -> jax.Array:
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


def level(
    planes_CHW: jax.Array, operation: jax.Array, magnitude: jax.Array
) -> jax.Array:
    """base + factor * (level - center), truncated; posterize and solarize before it."""
    # All pixels in one row: a CPU's vector loops then run over N = H W and not over W.
    C, H, W = planes_CHW.shape
    N = H * W
    planes_CN = planes_CHW.reshape(C, N)

    # ImageOps: posterize drops low bits, solarize inverts the high levels.
    bits = jnp.where(is_one(operation, "posterize"), magnitude, 8.0)
    dropped = jnp.clip(8 - bits.astype(jnp.int32), 0, 8)
    levels_CN = planes_CN >> dropped << dropped
    threshold = jnp.where(is_one(operation, "solarize"), magnitude, 256.0)
    levels_CN = jnp.where(levels_CN < threshold, levels_CN, 255 - levels_CN)

    # ImageEnhance: degenerate + factor * (level - degenerate).
    luma_N = luma(planes_CN) if C == 3 else planes_CN[0]
    mean = (2 * luma_N.sum() + N) // (2 * N)  # rounded
    center_CN = jnp.where(is_one(operation, "contrast"), mean, 0)
    center_CN = jnp.where(is_one(operation, "color"), luma_N[None], center_CN)
    smooth_CN = _smooth(planes_CN, W)
    center_CN = jnp.where(is_one(operation, "sharpness"), smooth_CN, center_CN)
    base_CN = center_CN
    factor = jnp.where(is_one(operation, *ENHANCERS), magnitude, 1.0)

    # ImageOps.autocontrast: 255 * (level - lowest) // (highest - lowest). The
    # thousandth keeps exact quotients from falling below themselves.
    lowest_C1 = planes_CN.min(1, keepdims=True)
    range_C1 = planes_CN.max(1, keepdims=True) - lowest_C1
    stretches_C1 = is_one(operation, "autocontrast") & (range_C1 > 0)
    base_CN = jnp.where(stretches_C1, 0, base_CN)
    center_CN = jnp.where(stretches_C1, lowest_C1, center_CN)
    factor_C1 = jnp.where(stretches_C1, 255.001 / jnp.maximum(range_C1, 1), factor)

    out_CN = base_CN + factor_C1 * (levels_CN - center_CN)
    return jnp.clip(out_CN, 0, 255).astype(jnp.int32).reshape(C, H, W)


def luma(rgb) -> jax.Array:
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
