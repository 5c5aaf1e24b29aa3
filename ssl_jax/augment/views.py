"""The views of a batch that an algorithm trains on: plain, weak and strong."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.augment import basic, randaugment
from ssl_jax.core import UserError

_WEAK = ("shift", "none")
_STRONG = {
    "randaugment_google": randaugment.randaugment_google,
    "randaugment_torchssl": randaugment.randaugment_torchssl,
    "none": lambda key, image_HWC: image_HWC,
}


class Views(NamedTuple):
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
    mean: Sequence[float] = (127.5,),
    std: Sequence[float] = (127.5,),
) -> Views:
    """Views by name. The strong view is the weak view first, then `strong`; for
    TorchSSL's it is `strong` first (its datasets/ssl_dataset.py inserts RandAugment
    before the mirroring and the shift).

    Args:
      weak: "shift": flip, then shift; "none": the image as it is, not flipped either.
      flip: whether the weak view mirrors half of the images.
      shift: pixels; the weak view moves by at most so many on each axis.
      strong: an operation that brings its own cutout, or "none": the weak view.
      mean, std: grey levels 0..255, one or one per channel. The default is FixMatch's
        x * 2 / 255 - 1.

    Raises:
      UserError: a name is unknown; when a view is traced: `shift` is too large for the
        images, or mean and std do not have one value per channel.
    """
    _check("weak", weak, _WEAK)
    _check("strong", strong, _STRONG)

    def plain(images_BHWC):
        return normalize(images_BHWC, mean, std)

    def weak_one(key, image_HWC):
        if weak == "none":
            return image_HWC
        key_flip, key_shift = jax.random.split(key)
        if flip:
            image_HWC = basic.flip(key_flip, image_HWC)
        return basic.shift(key_shift, image_HWC, max_shift=shift)

    def strong_one(key, image_HWC):
        key_weak, key_strong = jax.random.split(key)
        if strong == "randaugment_torchssl":
            return weak_one(key_weak, _STRONG[strong](key_strong, image_HWC))
        return _STRONG[strong](key_strong, weak_one(key_weak, image_HWC))

    def batched(one):
        def view(key, images_BHWC):
            keys_B = jax.random.split(key, images_BHWC.shape[0])
            return plain(jax.vmap(one)(keys_B, images_BHWC))

        return view

    return Views(plain=plain, weak=batched(weak_one), strong=batched(strong_one))


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
                f"{name} has {len(values)} values for images of {C} channels; give "
                "one value, or one per channel."
            )
    shape = (1,) * (images_BHWC.ndim - 1) + (-1,)
    mean, std = (np.array(v, np.float32).reshape(shape) for v in (mean, std))
    return (images_BHWC.astype(jnp.float32) - mean) / std


def _check(field: str, name: str, known) -> None:
    if name not in known:
        raise UserError(
            f"augment.{field}={name!r} is unknown; there are: {', '.join(known)}."
        )
