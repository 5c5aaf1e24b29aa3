"""The views of a batch that an algorithm trains on: plain, weak and strong."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.augment import basic, crops, randaugment
from ssl_jax.core import UserError

_WEAK = ("shift", "crop", "none")
STRONG = {
    "randaugment_google": randaugment.randaugment_google,
    "randaugment_torchssl": randaugment.randaugment_torchssl,
    "none": lambda key, image_HWC: image_HWC,
}


class WeakStrong(NamedTuple):
    """From uint8 images_BHWC to normalised float32 images_BHWC."""

    plain: Callable[[jax.Array], jax.Array]  # (images): for evaluation
    weak: Callable[[jax.Array, jax.Array], jax.Array]  # (key, images)
    strong: Callable[[jax.Array, jax.Array], jax.Array]  # (key, images)


def build(
    *,
    weak: str = "shift",
    flip: bool = True,
    shift: int = 4,
    strong: str = "randaugment_google",
    side: int = 0,
    resize: int = 0,
    area: tuple[float, float] = (0.08, 1.0),
    mean: tuple[float, ...] = (127.5,),
    std: tuple[float, ...] = (127.5,),
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
      side: pixels a side of crops and of the plain view; 0: as the images are. Only
        "crop" changes the side in the weak and the strong view.
      resize: pixels a side before the plain view's central crop; 0: `side`.
      area: least and greatest share of the image that "crop" covers.
      mean, std: grey levels 0..255, one or one per channel. The default is FixMatch's
        x * 2 / 255 - 1.

    Raises:
      UserError: a name is unknown; when a view is traced: `shift` is too large for the
        images, or mean and std do not have one value per channel.
    """
    _check("weak", weak, _WEAK)
    _check("strong", strong, STRONG)
    crops.check_area(area)

    def plain(images_BHWC):
        return basic.plain(images_BHWC, side=side, resize=resize, mean=mean, std=std)

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

    def strong_one(key, image_HWC):
        key_weak, key_strong = jax.random.split(key)
        if strong == "randaugment_torchssl":
            return weak_one(key_weak, STRONG[strong](key_strong, image_HWC))
        return STRONG[strong](key_strong, weak_one(key_weak, image_HWC))

    def batched(one):
        def view(key, images_BHWC):
            keys_B = jax.random.split(key, images_BHWC.shape[0])
            return basic.normalize(jax.vmap(one)(keys_B, images_BHWC), mean, std)

        return view

    return WeakStrong(plain, batched(weak_one), batched(strong_one))


def _check(field: str, name: str, known) -> None:
    if name not in known:
        raise UserError(
            f"augment.{field}={name!r} is unknown; there are: {', '.join(known)}."
        )
