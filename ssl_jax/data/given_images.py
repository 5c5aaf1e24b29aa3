"""Images that a user hands over, brought to the form of a run's own.

Each may be the name of a file, an image of Pillow's or an array; all of them in a list,
or arrays in one of four dimensions. What could be meant in two ways is refused: a
network says something of any numbers, however wrong their scale.
"""

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from ssl_jax.data.sources import image_files, one_image
from ssl_jax.data.sources.image_files import Unreadable
from ssl_jax.data.sources.one_image import DEFAULT, Reading
from ssl_jax.errors import UserError

_BLOCK = 1024  # images brought to their form at a time
_SHOWN = 20  # names in a message
_CHANNELS = (1, 3, 4)  # grey, RGB, and RGB with transparency
_GREY_LEVELS = "give uint8, grey levels 0 to 255"


def blocks(
    images: Any, shape: tuple[int, int, int], reading: Reading = DEFAULT
) -> Iterator[np.ndarray]:
    """images_BHWC uint8 of `shape`, block by block, in their order.

    An image of that shape stays as it is; any other is cropped to the proportions about
    its centre, resized and brought to grey or RGB, as files are (`one_image.fitted`).

    Args:
      images: one or several: names of files, images of Pillow's, arrays [H, W] or
        [H, W, C] of 1, 3 or 4 channels, or one array [B, H, W, C]. Arrays are uint8, or
        floats in [0, 1], which become round(255 x).
      shape: (H, W, C) of the result, C = 1 or 3.
      reading: how files are read.

    Raises:
      UserError: there is none; or with all those of a block that are no images, cannot
        be read, or could be meant otherwise.
    """
    images = listed(images)
    if not len(images):
        raise UserError("there are no images: give one or several.")
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        if isinstance(block, np.ndarray) and block.shape[1:] == shape:
            yield block
            continue
        if all(isinstance(image, str) for image in block):
            found = list(image_files.each("", block, shape, reading))
        else:
            found = [_brought(image, shape, reading) for image in block]
        _check(found, block, start, len(images))
        several, brightest = sum(p.several for p in found), [p.brightest for p in found]
        image_files.report_pixels(several, brightest, reading.white)
        yield np.stack([pixels.image_HWC for pixels in found])


def listed(images: Any) -> Sequence[Any]:
    """The images one by one: uint8 images_BHWC of an array of four dimensions; else a
    list, where names of files are str.

    Raises:
      UserError: an array is none of images.
    """
    if isinstance(images, (str, bytes, os.PathLike, Image.Image)):
        images = [images]
    elif hasattr(images, "__array__"):  # NumPy's, JAX's, PyTorch's, a column of pandas'
        array = np.asarray(images)
        if array.dtype.kind in "OUS":
            images = array.ravel().tolist()
        elif array.ndim == 4:
            return _uint8(array)
        else:
            images = [array]
    elif not hasattr(images, "__iter__"):
        images = [images]
    return [_name_or_image(image) for image in images]


def _name_or_image(image):
    if isinstance(image, (str, bytes, os.PathLike)):
        return os.path.expanduser(os.fsdecode(image))
    return image


def _brought(image, shape, reading):
    """Pixels of one image, or Unreadable."""
    if isinstance(image, str):
        return next(image_files.each("", [image], shape, reading))
    try:
        if isinstance(image, Image.Image):
            return one_image.fitted(_anew(image), shape, reading)
        return one_image.fitted(_of_array(image, shape), shape, reading)
    except UserError as error:
        return Unreadable("", str(error).removesuffix("."))
    except Exception as error:  # damaged images make Pillow raise nearly anything
        return Unreadable("", str(error) or type(error).__name__)


def _anew(image: Image.Image) -> Image.Image:
    """A JPEG that is not loaded yet, opened again: `fitted` reads it at a part of its
    size then, as it does of a file, and the user's own stays as it is."""
    if isinstance(image, JpegImageFile) and image.tile and image.fp:
        again = Image.open(image.fp)
        if again.size == image.size and not image.tell():
            return again
    return image


def _of_array(image, shape):
    if not hasattr(image, "__array__"):
        raise UserError(
            f"{type(image).__name__} is no image: give the name of a file, an image of "
            "Pillow's or an array"
        )
    array = np.asarray(image)
    if array.ndim == 2 and array.shape[1] == math.prod(shape):
        raise UserError(
            f"an array of shape {array.shape}: is it one image, or has each row all "
            f"pixels of one? Give x[..., None], or x.reshape(-1, *{shape})"
        )
    array = array[..., None] if array.ndim == 2 else array
    (image_HWC,) = _uint8(array[None])
    if image_HWC.shape[-1] == 1:
        image_HWC = image_HWC[..., 0]
    return Image.fromarray(image_HWC)


def _uint8(images_BHWC: np.ndarray) -> np.ndarray:
    """Raises UserError where they are no images, or it is not plain what is white."""
    of = images_BHWC.shape
    if len(of) != 4 or of[-1] not in _CHANNELS or 0 in of[1:]:
        remedy = ""
        if len(of) == 4 and of[1] in _CHANNELS:
            remedy = "; channels that stand first go last by np.moveaxis(x, -3, -1)"
        raise UserError(
            f"an array of shape {of if len(of) == 4 and of[0] > 1 else of[1:]}: images "
            "are [height, width], [height, width, channels] or [images, height, width, "
            f"channels], of 1, 3 or 4 channels{remedy}."
        )
    dtype = images_BHWC.dtype
    if dtype == np.uint8:
        return images_BHWC
    if dtype.kind != "f":
        raise UserError(f"an array of {dtype}: {_GREY_LEVELS}, or floats in [0, 1].")
    low, high = images_BHWC.min(initial=0), images_BHWC.max(initial=0)
    if not 0 <= low <= high <= 1:
        raise UserError(
            f"an array of {dtype} from {images_BHWC.min():.4g} to "
            f"{images_BHWC.max():.4g}: floats must be in [0, 1]; {_GREY_LEVELS}."
        )
    if high == 1 and np.isin(images_BHWC, (0, 1)).all():
        raise UserError(
            f"an array of {dtype}, all 0 or 1: is 1 white, or the darkest grey of 255? "
            f"{_GREY_LEVELS}."
        )
    return np.round(255 * images_BHWC.astype(np.float64)).astype(np.uint8)


def _check(found, block, start, total):
    """Raises UserError with all that are no Pixels."""
    bad = [
        (f"{start + i}", image, pixels)
        for i, (image, pixels) in enumerate(zip(block, found, strict=True))
        if isinstance(pixels, Unreadable)
    ]
    if not bad:
        return
    lines = []
    for at, image, pixels in bad[:_SHOWN]:
        called = repr(image) if isinstance(image, str) else "the image"
        if total > 1:
            called = f"images[{at}]" + (f" {called}" if isinstance(image, str) else "")
        lines.append(f"{called} cannot be taken: {pixels.reason}.")
    if len(bad) > len(lines):
        lines.append(f"and {len(bad) - len(lines):,} more.")
    raise UserError("\n".join(lines))
