"""RandAugment (arXiv:1909.13719) as FixMatch uses it, in two published protocols.

Everything here works on one uint8 image and is meant for `jax.vmap`.

`strength` is the part of a protocol that is used, from 0, the image as it is, to 1, the
published one: of each range from the magnitude that changes nothing, of the cutout's
side, and of the times that autocontrast and equalize are applied, which have no
magnitude. A fraction of a bit is ignored (posterize), and so is that of the side. A
program may be given it as it runs.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.augment import basic, operations
from ssl_jax.augment.operations import ENHANCERS, WARPS
from ssl_jax.core import is_off

OPERATIONS = operations.OPERATIONS[:14]
# Magnitudes that change nothing, where that is not 0.
_NEUTRAL = {"solarize": 256, "posterize": 8, **dict.fromkeys(ENHANCERS, 1)}
_WITHOUT = ("autocontrast", "equalize")  # a magnitude


def _google_magnitudes(strength: float) -> np.ndarray:
    """[operation, level 0..10], in the units of `operations.randaugment_families`.

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
    for name in ENHANCERS:
        table[name] = 0.1 + 0.18 * L
    return _weakened(np.stack(list(table.values())), strength)


def _weakened(magnitudes, strength):
    """[operation, ...] of float32; at strength 1 as they are, to the last bit."""
    neutral = np.array([[_NEUTRAL.get(name, 0)] for name in OPERATIONS])
    weakened = strength * magnitudes + (1 - strength) * neutral
    return weakened.astype(np.float32)


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
    **dict.fromkeys(ENHANCERS, (0.05, 0.95)),
}
_TORCHSSL_CUTOUT_COLOR = (125, 123, 114)  # the same file, `CutoutAbs`
_CUTOUT = 16  # pixels a side: the default of google-research/fixmatch's `cutout_numpy`
_GREY = 127  # google-research/fixmatch: normalised 0; (127, 127, 127) in its `cutout`


def randaugment_google(
    key: jax.Array, image_HWC: jax.Array, *, strength: float | jax.Array = 1.0
) -> jax.Array:
    """Two operations of 14, each applied with p 0.5, then cutout of 16 pixels.

    google-research/fixmatch, libml/augment.py, `AugmentPoolRAMC`: operations with
    replacement, level 1..9. There a warp leaves transparent pixels that become grey
    in the end, or black if autocontrast, equalize, solarize or posterize comes after;
    here they are grey at once. Of images below 32 pixels, which that code has not, the
    cutout is half the side.
    """
    H, W, C = image_HWC.shape
    key_draw, key_cutout = jax.random.split(key)
    families = operations.randaugment_families(C, fill=_GREY)
    drawn = draw_google(key_draw, strength=strength)
    image_HWC = operations.slots(image_HWC, drawn, families)
    side = strength * min(_CUTOUT, H // 2, W // 2) // 1
    return basic.cutout(key_cutout, image_HWC, side=side, fill=(_GREY,))


def draw_google(
    key: jax.Array, num_slots: int = 2, strength: float | jax.Array = 1.0
) -> tuple[jax.Array, jax.Array]:
    """(operation_S int32, magnitude_S float32); "identity" where p says not applied."""
    # One call for all draws: on a CPU each call is a loop of its own.
    which_S, level_S, sign_S, apply_S = jax.random.uniform(key, (4, num_slots))
    operation_S = jnp.floor(which_S * len(OPERATIONS)).astype(jnp.int32)
    level_S = 1 + jnp.floor(level_S * 9).astype(jnp.int32)
    magnitude_S = jnp.asarray(_google_magnitudes(strength))[operation_S, level_S]
    negated_S = operations.is_one(operation_S, *WARPS) & (sign_S < 0.5)
    magnitude_S = jnp.where(negated_S, -magnitude_S, magnitude_S)
    operation_S = jnp.where(apply_S < 0.5, operation_S, 0)
    return _now_and_then(operation_S, sign_S, strength), magnitude_S


def _now_and_then(operation_S, drawn_S, strength):
    """Operations without a magnitude are applied where what is drawn in [0, 1), which
    they have no other use for, is below the strength."""
    if is_off(1 - strength):
        return operation_S
    left_out_S = operations.is_one(operation_S, *_WITHOUT) & (drawn_S >= strength)
    return jnp.where(left_out_S, 0, operation_S)


def randaugment_torchssl(
    key: jax.Array, image_HWC: jax.Array, *, strength: float | jax.Array = 1.0
) -> jax.Array:
    """Three operations of 14, always applied, then cutout of U(0, 0.5) of the side.

    TorchSSL, datasets/augmentation/randaugment.py, `RandAugment(3, 5)`: operations
    with replacement, uniform magnitudes, black where a warp finds no pixel.
    """
    H, W, C = image_HWC.shape
    key_draw, key_cutout = jax.random.split(key)
    drawn = draw_torchssl(key_draw, (H, W), strength=strength)
    image_HWC = operations.slots(
        image_HWC, drawn, operations.randaugment_families(C, fill=0)
    )

    # `CutoutAbs`: a box that leaves the image at the top or left is moved inside, at
    # the bottom or right it is cut; Pillow's rectangle includes its last row, which is
    # the one that strength 0 leaves out.
    side, row, column = jax.random.uniform(key_cutout, (3,)) * np.array([W / 2, H, W])
    side *= strength
    top = jnp.floor(jnp.maximum(row - side / 2, 0))
    left = jnp.floor(jnp.maximum(column - side / 2, 0))
    end = jnp.ceil(strength)
    box = (top, left, jnp.floor(top + side) + end, jnp.floor(left + side) + end)
    color = _TORCHSSL_CUTOUT_COLOR
    if C == 1:
        color = (int(operations.luma(color)),)
    return basic.rectangle(image_HWC, box, color)


def draw_torchssl(
    key: jax.Array,
    size: tuple[int, int],
    num_slots: int = 3,
    strength: float | jax.Array = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """(operation_S int32, magnitude_S float32) for images of `size` = (H, W)."""
    H, W = size
    side = {"translate_x": W, "translate_y": H}
    ranges = [
        np.multiply(_TORCHSSL_RANGES.get(name, (0, 0)), side.get(name, 1))
        for name in OPERATIONS
    ]
    least, most = jnp.asarray(_weakened(np.array(ranges), strength).T)
    which_S, part_S = jax.random.uniform(key, (2, num_slots))
    operation_S = jnp.floor(which_S * len(OPERATIONS)).astype(jnp.int32)
    least_S, most_S = least[operation_S], most[operation_S]
    magnitude_S = least_S + (most_S - least_S) * part_S
    return _now_and_then(operation_S, part_S, strength), magnitude_S
