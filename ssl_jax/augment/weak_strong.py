"""The views of a batch that an algorithm trains on: plain, weak and strong."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.augment import basic, crops, ctaugment, randaugment
from ssl_jax.core.ranges import GreyLevel, Positive, Share, Some, Whole
from ssl_jax.errors import UserError

_WEAK = ("shift", "crop", "none")
STRONG = {  # (key, image_HWC, strength=1.0) -> image_HWC
    "randaugment_google": randaugment.randaugment_google,
    "randaugment_torchssl": randaugment.randaugment_torchssl,
    "none": lambda key, image_HWC, strength=1.0: image_HWC,
}
# What "translate" of `ctaugment.ctaugment` is: the paper's, and its published code's.
CTAUGMENT = {"ctaugment": "side", "ctaugment_google": "pixel"}


class WeakStrong(NamedTuple):
    """From uint8 images_BHWC to normalised float32 images_BHWC."""

    plain: Callable[[jax.Array], jax.Array]  # (images): for evaluation
    weak: Callable[[jax.Array, jax.Array], jax.Array]  # (key, images)
    # (key, images, rates=None, cutout=True, part=1.0): CTAugment's rates, and whether
    # it ends in a cutout (RandAugment has its own); the part of `strength` that is used
    strong: Callable[..., jax.Array]
    # (key, images) -> (images, drawn): the images that CTAugment's rates are measured
    # on, and what was drawn for them; None: `strong` is not CTAugment
    probe: Callable[[jax.Array, jax.Array], tuple] | None = None


def build(
    *,
    weak: str = "shift",
    flip: bool = True,
    shift: Whole = 4,
    strong: str = "randaugment_google",
    strength: Share = 1.0,
    side: Whole = 0,
    resize: Whole = 0,
    area: tuple[Share, Share] = (0.08, 1.0),
    scale_to: Whole = 0,
    mean: Some[GreyLevel] = (127.5,),
    std: Some[Positive] = (127.5,),
) -> WeakStrong:
    """Views by name. The strong view is the weak view first, then `strong`; for
    TorchSSL's it is `strong` first (its datasets/ssl_dataset.py inserts RandAugment
    before the mirroring and the shift).

    Args:
      weak: "shift": flip, then shift; "crop": flip, then random resized crop; "none":
        the image as it is, not flipped either.
      flip: whether the weak view mirrors half of the images.
      shift: pixels; the weak view moves by at most so many on each axis.
      strong: an operation that brings its own cutout, or "none": the weak view.
        "ctaugment" is for algorithms that keep its rates; "ctaugment_google" differs
        as the published code does: its translations move nothing.
      strength: of RandAugment and CTAugment: the part of each published range that is
        used, from 0 (nothing changes) to 1.
      side: pixels a side of crops and of the plain view; 0: as the images are. Only
        "crop" changes the side in the weak and the strong view.
      resize: pixels a side before the plain view's central crop; 0: `side`.
      area: least and greatest share of the image that "crop" covers.
      scale_to: pixels of the shorter side that every view is brought to in the end
        (bilinear): what pixels mean above, and the cost of the views, is as without.
        0: as it is.
      mean, std: grey levels 0..255, one or one per channel. The default is FixMatch's
        x * 2 / 255 - 1.

    Raises:
      UserError: a name is unknown; when a view is traced: `shift` is too large for
        the images, mean and std do not have one value per channel, or CTAugment gets
        no rates.
    """
    _check("weak", weak, _WEAK)
    _check("strong", strong, (*STRONG, *CTAUGMENT))
    crops.check_area(area)

    def plain(images_BHWC):
        x_BHWC = basic.plain(images_BHWC, side=side, resize=resize, mean=mean, std=std)
        return basic.scaled(x_BHWC, scale_to)

    def weak_one(key, image_HWC):
        if weak == "none":
            return image_HWC
        key_flip, key_shift = jax.random.split(key)
        if flip:
            image_HWC = basic.flip(key_flip, image_HWC)
        if weak == "crop":
            crop = crops.random_resized_crop(
                key_shift,
                image_HWC,
                side=side or min(image_HWC.shape[:2]),
                area=area,
                method="bilinear",
            )
            return (255 * crop).round().astype(jnp.uint8)
        return basic.shift(key_shift, image_HWC, max_shift=shift)

    def normalized(images_BHWC):
        return basic.scaled(basic.normalize(images_BHWC, mean, std), scale_to)

    # Traced once for all that ask, which without jit would each take its time.
    inlined = partial(jax.jit, inline=True)

    def batched(one, key, images_BHWC):
        keys_B = jax.random.split(key, images_BHWC.shape[0])
        return jax.vmap(one)(keys_B, images_BHWC)

    def with_weak(operation):
        def one(key, image_HWC):
            key_weak, key_strong = jax.random.split(key)
            if strong == "randaugment_torchssl":
                return weak_one(key_weak, operation(key_strong, image_HWC))
            return operation(key_strong, weak_one(key_weak, image_HWC))

        return one

    def weak_view(key, images_BHWC):
        return normalized(batched(weak_one, key, images_BHWC))

    options = dict(strength=strength, translate=CTAUGMENT.get(strong))

    def strong_view(key, images_BHWC, rates=None, cutout=True, part=1.0):
        used = strength if part == 1 else part * strength
        if strong in STRONG:
            operation = partial(STRONG[strong], strength=used)
        elif rates is None:
            raise UserError(
                f"augment.strong={strong!r} needs rates that this algorithm does "
                "not keep: use 'randaugment_google', or an algorithm that learns "
                "them, such as fixmatch.FixMatch."
            )
        else:
            operation = partial(
                ctaugment.ctaugment,
                rates=rates,
                cutout=cutout,
                **(options | {"strength": used}),
            )
        return normalized(batched(with_weak(operation), key, images_BHWC))

    def probe_view(key, images_BHWC):
        one = with_weak(partial(ctaugment.probe, **options))
        images_BHWC, drawn = batched(one, key, images_BHWC)
        return normalized(images_BHWC), drawn

    probe = inlined(probe_view) if strong in CTAUGMENT else None
    strong_view = inlined(strong_view, static_argnames=("cutout", "part"))
    return WeakStrong(plain, inlined(weak_view), strong_view, probe)


def _check(field: str, name: str, known) -> None:
    if name not in known:
        raise UserError(
            f"augment.{field}={name!r} is unknown; there are: {', '.join(known)}."
        )
