"""Images as they are: for a method that looks at each once, by a frozen encoder."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax

from ssl_jax.augment import basic
from ssl_jax.core.ranges import GreyLevel, Positive, Some, Whole


class Plain(NamedTuple):
    """From uint8 images_BHWC to normalised float32 images_BHWC."""

    plain: Callable[[jax.Array], jax.Array]  # (images)


def build(
    *,
    side: Whole = 0,
    resize: Whole = 0,
    mean: Some[GreyLevel] = (127.5,),
    std: Some[Positive] = (127.5,),
) -> Plain:
    """The one view.

    Args:
      side: pixels a side of the crop of the centre; 0: as the images are.
      resize: pixels a side before that; 0: `side`.
      mean, std: grey levels 0..255, one or one per channel.

    Raises:
      UserError: when it is traced: mean and std do not have one value per channel.
    """
    view = partial(basic.plain, side=side, resize=resize, mean=mean, std=std)
    return Plain(view)
