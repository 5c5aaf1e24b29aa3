"""CTAugment: operations whose ranges follow what the model still recognises.

Berthelot et al., "ReMixMatch", arXiv:1911.09785, section 3.2.2, as FixMatch uses it
(arXiv:2001.07685, google-research/fixmatch, libml/ctaugment.py and cta/lib/train.py).

Each parameter of each operation is split into bins, and each bin has a rate: how close
the teacher's prediction for a labeled image, changed with a value from that bin
(`probe`), came to its label. Unlabeled images are changed with values from bins of a
high rate only (`ctaugment`). Rates are a value that goes in and out:

    rates = init()
    images = vmap(partial(ctaugment, rates=rates))(keys, unlabeled_images)
    images, drawn = vmap(probe)(keys, labeled_images)
    rates = update(rates, drawn, proximity_B)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.augment import basic, operations
from ssl_jax.augment.ctaugment_operations import BLENDED, ctaugment_families
from ssl_jax.augment.operations import ENHANCERS, OPERATIONS
from ssl_jax.core import on_every_device

# google-research/fixmatch, cta/lib/train.py: the flags adepth, ath, adecay.
DEPTH = 2  # operations on an image
THRESHOLD = 0.80  # bins whose rate is a smaller part of the highest are not drawn
DECAY = 0.99  # of a rate, whenever its bin is probed


def _bins() -> np.ndarray:
    """int32 [operation, parameter]: bins; 0 where there is no such parameter."""
    bins = {name: (17, 0) for name in OPERATIONS}
    bins |= {"identity": (0, 0), "posterize": (8, 0), "rescale": (17, 6)}
    return np.array(list(bins.values()), np.int32)


BINS = _bins()
_EXISTS = np.arange(BINS.max()) < BINS[..., None]  # [operation, parameter, bin]


class Drawn(NamedTuple):
    """S operations for one image, or with B in front for a batch."""

    operation_S: jax.Array  # int32: indices into OPERATIONS
    level_S2: jax.Array  # float32 in [0, 1]: the parameters, 0 where there is none
    center_S2: jax.Array  # float32 in [0, 1): where a cutout's centre is


def init() -> jax.Array:
    """The rates before training: 1 for each bin, float32 [operation, parameter, bin].

    0 where there is no bin: parameters have different numbers of them (BINS).
    """
    return jnp.asarray(_EXISTS, jnp.float32)


def bin_probabilities(rates: jax.Array) -> jax.Array:
    """With which probability a bin is drawn for training, in the shape of `rates`.

    rate + 0.01, so that not all are zero; relative to the highest of the parameter;
    0 below THRESHOLD; divided by their sum.
    """
    p = jnp.where(_EXISTS, rates + (1 - DECAY), 0)
    highest = p.max(-1, keepdims=True)
    p = p / jnp.where(highest > 0, highest, 1)  # 0: there is no such parameter
    p = jnp.where(p < THRESHOLD, 0, p)
    return p / jnp.where(highest > 0, p.sum(-1, keepdims=True), 1)


def draw(key: jax.Array, rates: jax.Array, num_slots: int = DEPTH) -> Drawn:
    """For training: any operation, then values from bins of a high rate."""
    operation_S, bin_S2, within_S2, center_S2 = _uniform(key, num_slots)
    sums = jnp.cumsum(bin_probabilities(jax.lax.stop_gradient(rates)), axis=-1)
    sums_S2V = sums[operation_S]
    # A draw is at most 1 - 2^-23: its product stays below the last sum.
    point_S21 = (bin_S2 * sums_S2V[..., -1])[..., None]
    bin_S2 = (sums_S2V <= point_S21).sum(-1)
    bins_S2 = jnp.asarray(BINS)[operation_S]
    level_S2 = (bin_S2 + within_S2) / jnp.maximum(bins_S2, 1)
    return Drawn(operation_S, jnp.where(bins_S2 > 0, level_S2, 0), center_S2)


def draw_probe(key: jax.Array, num_slots: int = DEPTH) -> Drawn:
    """For measuring rates: any operation, any values."""
    operation_S, _, level_S2, center_S2 = _uniform(key, num_slots)
    return Drawn(
        operation_S,
        jnp.where(jnp.asarray(BINS)[operation_S] > 0, level_S2, 0),
        center_S2,
    )


def _uniform(key: jax.Array, num_slots: int):
    # One call for all draws: on a CPU each call is a loop of its own.
    which_1S, *rest = jnp.split(jax.random.uniform(key, (7, num_slots)), (1, 3, 5))
    operation_S = jnp.floor(which_1S[0] * len(OPERATIONS)).astype(jnp.int32)
    return operation_S, *(draws_2S.T for draws_2S in rest)


def update(rates: jax.Array, drawn: Drawn, proximity_B: jax.Array) -> jax.Array:
    """The rates after a batch of probes.

    Image after image, slot after slot, rate = 0.99 rate + 0.01 proximity in the bin of
    each parameter's value. A bin that is hit n times moves by 0.99^(later hits) * 0.01
    * (proximity - rate), summed over its hits: the same in one go.

    Args:
      drawn: by `draw_probe`, B in front. The batch may be split over devices.
      proximity_B: 1 - half of the sum of absolute differences between the predicted
        probabilities and the label's, in [0, 1].
    """
    operation_BS, level_BS2, proximity_B = map(
        on_every_device, (drawn.operation_S, drawn.level_S2, proximity_B)
    )
    bins_BS2 = jnp.asarray(BINS)[operation_BS]
    # The published code's factor, which keeps the level 1 inside.
    bin_BS2 = (level_BS2 * (bins_BS2 * np.float32(0.999))).astype(jnp.int32)
    first_O2 = np.arange(BINS.size).reshape(BINS.shape) * _EXISTS.shape[-1]
    cell_BS2 = jnp.asarray(first_O2)[operation_BS] + bin_BS2
    cell_M = jnp.where(bins_BS2 > 0, cell_BS2, rates.size).reshape(-1)
    proximity_M = jnp.repeat(proximity_B, cell_BS2[0].size)

    order_M = jnp.arange(len(cell_M))  # of NumPy M x M numbers would be compiled in
    is_later_MM = order_M[None, :] > order_M[:, None]
    later_M = ((cell_M[:, None] == cell_M[None, :]) & is_later_MM).sum(1)
    weight_M = (1 - DECAY) * DECAY ** later_M.astype(jnp.float32)
    # Sums over a comparison, not a scatter: a GPU adds in an order of its own there.
    moves_MV = weight_M[:, None] * (proximity_M[:, None] - rates.reshape(1, -1))
    hit_MV = cell_M[:, None] == np.arange(rates.size)[None, :]
    return rates + jnp.where(hit_MV, moves_MV, 0).sum(0).reshape(rates.shape)


def ctaugment(
    key: jax.Array,
    image_HWC: jax.Array,
    rates: jax.Array,
    *,
    strength: float = 1.0,
    translate: str = "side",
    cutout: bool = True,
) -> jax.Array:
    """Two operations on one uint8 image, then cutout of half the side in grey.

    Args:
      rates: as of `init`.
      strength: the part of each range, from the value that changes nothing, that is
        used; 1: the published ranges, 0: the image as it is. Of the last cutout, too.
      translate: "side": by at most 0.3 of the side, as the paper says; "pixel": of a
        pixel, as the published code has it, where it changes nothing.
      cutout: whether there is the last one: FixMatch's code adds it to ReMixMatch's.
    """
    key_draw, key_cutout = jax.random.split(key)
    drawn = draw(key_draw, rates)
    image_HWC = apply(image_HWC, drawn, strength=strength, translate=translate)
    if not cutout:
        return image_HWC
    side = _cutout_side(1.0, image_HWC.shape, strength)
    return basic.cutout(key_cutout, image_HWC, side=side, fill=(127,))


def probe(
    key: jax.Array,
    image_HWC: jax.Array,
    *,
    strength: float = 1.0,
    translate: str = "side",
) -> tuple[jax.Array, Drawn]:
    """Two operations with any values, without the last cutout, and what was drawn."""
    drawn = draw_probe(key)
    return apply(image_HWC, drawn, strength=strength, translate=translate), drawn


def apply(
    image_HWC: jax.Array, drawn: Drawn, *, strength: float, translate: str
) -> jax.Array:
    """What was drawn, on one uint8 image; the keywords as of `ctaugment`."""
    H, W, C = image_HWC.shape
    # In pixels. Python's own floats, as in the published code.
    most = (0.3 * W, 0.3 * H) if translate == "side" else (0.3, 0.3)

    def of_slot(operation, level_2, center_2):
        level, second = level_2
        magnitudes = _magnitudes(level, image_HWC.shape, strength, most)
        center_2 = jnp.floor(center_2 * np.array([H, W], np.float32))
        method_2 = jnp.stack([jnp.floor(second * 5.99), 0 * second])
        rescales = operations.is_one(operation, "rescale")
        return magnitudes[operation], jnp.where(rescales, method_2, center_2)

    slots = (drawn.operation_S, *jax.vmap(of_slot)(*drawn))
    return operations.slots(image_HWC, slots, ctaugment_families(C))


def _magnitudes(level, shape, strength, most_translated) -> jax.Array:
    """[operation] from a level in [0, 1], in the units of `ctaugment_families`."""
    signed = strength * (2 * level - 1)
    bits = 1 + jnp.floor(level * 7.999)
    threshold = jnp.floor(level * 255.999)
    values = {
        "identity": 0 * level,
        "rotate": jnp.round(45 * signed),
        "shear_x": 0.3 * signed,
        "shear_y": 0.3 * signed,
        "translate_x": most_translated[0] * signed,
        "translate_y": most_translated[1] * signed,
        "posterize": 8 - strength * (8 - bits),
        "solarize": 256 - strength * (256 - threshold),
        "rescale": 0.25 * strength * level,
        "cutout": _cutout_side(level, shape, strength) // 2,
        **dict.fromkeys(BLENDED, strength * level),
        **dict.fromkeys(ENHANCERS, 1 + strength * (0.1 + 1.9 * level - 1)),
    }
    return jnp.stack([values[name] for name in OPERATIONS])


def _cutout_side(level, shape, strength):
    """Whole pixels; at level 1 half of the shorter side."""
    return 1 + (strength * level * min(shape[:2]) * 0.499) // 1
