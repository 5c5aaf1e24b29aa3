"""Two large crops of each image and a number of small ones, as SwAV and DINO train on.

Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster
Assignments", arXiv:2006.09882, section 3.2 and appendix A; Caron et al., "Emerging
Properties in Self-Supervised Vision Transformers", arXiv:2104.14294, whose settings are
the defaults. The large crops are `two_crops`; a small one is as they are, of another
area and side, and blurred by its own probability.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax

from ssl_jax.augment import two_crops
from ssl_jax.core.ranges import (
    GreyLevel,
    Positive,
    Range,
    Share,
    Some,
    Weight,
    Whole,
)


class MultiCrop(NamedTuple):
    """From uint8 images_BHWC to normalised float32 images_BHWC."""

    plain: Callable[[jax.Array], jax.Array]  # (images): for evaluation
    first: Callable[[jax.Array, jax.Array], jax.Array]  # (key, images): large
    second: Callable[[jax.Array, jax.Array], jax.Array]  # (key, images): large
    small: Callable[[jax.Array, jax.Array], jax.Array]  # (key, images): one of them


def build(
    *,
    before: tuple[str, str] = ("none", "none"),
    side: Whole = 0,
    resize: Whole = 0,
    area: tuple[Share, Share] = (0.4, 1.0),
    small_side: Whole = 0,
    small_area: tuple[Share, Share] = (0.05, 0.4),
    method: str = "bicubic",
    flip: bool = True,
    jitter: Share = 0.8,
    brightness: Weight = 0.4,
    contrast: Weight = 0.4,
    saturation: Weight = 0.2,
    hue: Annotated[float, Range(0, 0.5)] = 0.1,
    grey: Share = 0.2,
    blur: tuple[Share, Share] = (1.0, 0.1),
    small_blur: Share = 0.5,
    solarize: tuple[Share, Share] = (0.0, 0.2),
    mean: Some[GreyLevel] = (127.5,),
    std: Some[Positive] = (127.5,),
) -> MultiCrop:
    """DINO's views by default.

    Args:
      small_side: pixels a side of the small crops; 0: half of the large ones'. The
        papers' have 96 beside 224.
      small_area: least and greatest share of the image that a small crop covers.
      small_blur: probability in the small crops, which are not solarized.
      others: as `two_crops.build` has them, for the large crops; a small one is made
        as the first view is.

    Raises:
      UserError: as `two_crops.build`.
    """
    shared = dict(before=before, method=method, flip=flip, jitter=jitter)
    shared |= dict(brightness=brightness, contrast=contrast, saturation=saturation)
    shared |= dict(hue=hue, grey=grey, mean=mean, std=std)
    large = two_crops.build(
        side=side, resize=resize, area=area, blur=blur, solarize=solarize, **shared
    )

    def small(key, images_BHWC):
        of = small_side or (side or min(images_BHWC.shape[1:3])) // 2
        views = two_crops.build(
            side=of,
            area=small_area,
            blur=(small_blur, 0.0),
            solarize=(0.0, 0.0),
            **shared,
        )
        return views.first(key, images_BHWC)

    # What is wrong with the small crops' fields is said now, and not when one is made.
    two_crops.build(area=small_area, **shared)
    return MultiCrop(*large, small)
