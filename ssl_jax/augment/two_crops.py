"""Two views of each image from two distributions, as BYOL and SimSiam train on.

Grill et al., arXiv:2006.07733, appendix B (table 6): random resized crop, mirror,
colour jitter in random order, grey, Gaussian blur, solarize. T and T' differ in the
last two.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax

from ssl_jax.augment import basic, color, crops
from ssl_jax.augment.weak_strong import STRONG
from ssl_jax.core.ranges import (
    GreyLevel,
    Positive,
    Range,
    Share,
    Some,
    Weight,
    Whole,
)
from ssl_jax.errors import UserError


class TwoCrops(NamedTuple):
    """From uint8 images_BHWC to normalised float32 images_BHWC."""

    plain: Callable[[jax.Array], jax.Array]  # (images): for evaluation
    first: Callable[[jax.Array, jax.Array], jax.Array]  # (key, images): t ~ T
    second: Callable[[jax.Array, jax.Array], jax.Array]  # (key, images): t' ~ T'


def build(
    *,
    before: tuple[str, str] = ("none", "none"),
    side: Whole = 0,
    resize: Whole = 0,
    area: tuple[Share, Share] = (0.08, 1.0),
    method: str = "bicubic",
    flip: bool = True,
    jitter: Share = 0.8,
    brightness: Weight = 0.4,
    contrast: Weight = 0.4,
    saturation: Weight = 0.2,
    hue: Annotated[float, Range(0, 0.5)] = 0.1,
    grey: Share = 0.2,
    blur: tuple[Share, Share] = (1.0, 0.1),
    solarize: tuple[Share, Share] = (0.0, 0.2),
    mean: Some[GreyLevel] = (127.5,),
    std: Some[Positive] = (127.5,),
) -> TwoCrops:
    """The paper's views by default.

    Args:
      before: what is done to the image before the crop of the first and of the second
        view: "none", the paper's, "randaugment_google" or "randaugment_torchssl".
      side: pixels a side of what the network sees; 0: as the images are.
      resize: pixels a side before the central crop of the plain view; 0: `side`.
      area: least and greatest share of the image that a crop covers.
      method: "bicubic" or "bilinear", both with antialiasing.
      flip: whether half of the views are mirrored.
      jitter: probability of the next four, in random order.
      brightness, contrast, saturation: greatest change of their factors from 1.
      hue: greatest shift, in turns of the colour circle.
      grey: probability of losing colour.
      blur, solarize: probabilities in the first and in the second view.
      mean, std: grey levels 0..255, one or one per channel.

    Raises:
      UserError: an unknown method or an impossible area; when a view is traced, a
        `side` larger than the image.
    """
    if unknown := set(before) - set(STRONG):
        raise UserError(
            f"augment.before={before} names {', '.join(sorted(unknown))}; there are: "
            f"{', '.join(STRONG)}."
        )
    crops.check_area(area)
    crops.check_method(method)

    def batched(before, blur_probability, solarize_probability):
        def one(key, image_HWC):
            names = (
                *("crop", "flip", "whether_jitter", "jitter", "grey"),
                *("whether_blur", "blur", "solarize", "before"),
            )
            keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
            image_HWC = STRONG[before](keys["before"], image_HWC)
            x = crops.random_resized_crop(
                keys["crop"],
                image_HWC,
                side=side or min(image_HWC.shape[:2]),
                area=area,
                method=method,
            )
            if flip:
                x = basic.flip(keys["flip"], x)

            def jittered(x):
                strengths = dict(brightness=brightness, contrast=contrast)
                strengths |= dict(saturation=saturation, hue=hue)
                return color.jitter(keys["jitter"], x, **strengths)

            def blurred(x):
                kernel_size = color.blur_kernel_size(min(x.shape[:2]))
                return color.blur(keys["blur"], x, kernel_size=kernel_size)

            for key, probability, operation in (
                (keys["whether_jitter"], jitter, jittered),
                (keys["grey"], grey, color.grey),
                (keys["whether_blur"], blur_probability, blurred),
                (keys["solarize"], solarize_probability, color.solarize),
            ):
                x = color.with_probability(key, probability, operation, x)
            return x

        def view(key, images_BHWC):
            keys_B = jax.random.split(key, images_BHWC.shape[0])
            return basic.normalize(255 * jax.vmap(one)(keys_B, images_BHWC), mean, std)

        return jax.jit(view, inline=True)  # traced once for all that ask

    def plain(images_BHWC):
        return basic.plain(images_BHWC, side=side, resize=resize, mean=mean, std=std)

    first, second = zip(before, blur, solarize, strict=True)
    return TwoCrops(plain, batched(*first), batched(*second))
