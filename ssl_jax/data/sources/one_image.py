"""One image file of any format that Pillow opens: its header, and its pixels."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ssl_jax.data.sources import formats

BACKGROUND = "white"  # what shows through transparent pixels
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_ORIENTATION = 0x0112  # the EXIF tag; from 5 on the image is stored on its side
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OF_FRAMES = ("GIF", "TIFF", "PNG", "WEBP", "AVIF")  # not a phone's MPO: one photo


class Reading(NamedTuple):
    """How files are read: fields of the section `data` of a config. What a run is to
    label is read as what it was trained on."""

    white: int = 0  # the value that is white, of more than 8 bits; 0: 65,535
    max_pixels: int = 89_478_485  # of a file, Pillow's own; 0: any number


class Pixels(NamedTuple):
    """What a file holds."""

    image_HWC: np.ndarray  # uint8
    several: bool  # whether other frames follow the first, which this is
    brightest: int  # its largest value, where it has more than 8 bits; else 0


class Header(NamedTuple):
    """What a file says of its image before its pixels are decoded."""

    grey: bool
    height: int
    width: int


class Form(NamedTuple):
    """What a file says of how its image is stored."""

    format: str  # Pillow's: "JPEG"
    mode: str  # Pillow's: "RGB", "P", "I;16"
    grey: bool
    height: int  # as EXIF turns it
    width: int
    several: bool  # whether other frames follow the first


DEFAULT = Reading()


def header(path: str, turned: bool = False, reading: Reading = DEFAULT) -> Header:
    """Raises what `decode` raises. `turned`: with the height and width as EXIF turns
    the image, for which Pillow decodes some files."""
    with _opened(path, reading) as image:
        grey, (width, height) = image.mode in _GREY, image.size
        if turned and image.getexif().get(_ORIENTATION, 1) >= 5:  # on its side
            width, height = ImageOps.exif_transpose(image).size  # TIFF's has it already
        return Header(grey, height, width)


def form(path: str, reading: Reading = DEFAULT) -> Form:
    """Raises what `decode` raises."""
    _, height, width = header(path, True, reading)
    with _opened(path, reading) as image:
        return form_of(image)._replace(height=height, width=width)


def form_of(image: Image.Image) -> Form:
    """Of an image that is opened: as it is stored, whatever EXIF says."""
    return Form(
        format=image.format or "",
        mode=image.mode,
        grey=image.mode in _GREY,
        height=image.height,
        width=image.width,
        several=_has_more_frames(image),
    )


def decode(
    path: str, shape: tuple[int, int, int], reading: Reading = DEFAULT
) -> Pixels:
    """image_HWC of a file, uint8: its first frame, turned as EXIF says, with
    transparent pixels on BACKGROUND; grey where `shape` has one channel, RGB where it
    has three; of another size, its centre resized (as by `tfds_split.fit`).

    More bits are scaled to 8, with `reading.white` as 255. Raises what Pillow raises,
    or ValueError where pixels have no range to scale from.
    """
    with _opened(path, reading) as image:
        return fitted(image, shape, reading)


def fitted(
    image: Image.Image, shape: tuple[int, int, int], reading: Reading = DEFAULT
) -> Pixels:
    """`decode` of an open image. One that is not loaded yet may be loaded at a part of
    its size."""
    height, width, channels = shape
    several = _has_more_frames(image)
    # A photograph of many times the size is decoded at a half, a quarter or an eighth,
    # if that leaves twice what is asked for, either way up (JPEG only, 4.5 times as
    # fast). Its edge is then within the last row and column of pixels.
    drafted = image.draft(None, (2 * max(height, width),) * 2)
    image.load()
    box = drafted[1] if drafted else (0, 0, *image.size)
    orientation = image.getexif().get(_ORIENTATION, 1)
    plain, brightest = _eight_bits(image, reading.white)
    if plain.has_transparency_data:
        plain = plain.convert("RGBA")
        background = Image.new("RGBA", plain.size, BACKGROUND)
        plain = Image.alpha_composite(background, plain)
    plain = plain.convert("L" if channels == 1 else "RGB")
    size = (height, width) if orientation >= 5 else (width, height)
    fitted = plain.resize(size, Image.Resampling.BICUBIC, _centre(box, size))
    if orientation in _TURNS:
        fitted = fitted.transpose(_TURNS[orientation])
    return Pixels(np.asarray(fitted).reshape(shape), several, brightest)


def _centre(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The largest part of `box` (left, upper, right, lower) with the proportions of
    `size` (width, height), centred as by PIL.ImageOps.fit."""
    _, _, width, height = box
    across = min(width, size[0] / size[1] * height)
    down = min(height, size[1] / size[0] * width)
    left, upper = (width - across) / 2, (height - down) / 2
    return left, upper, left + across, upper + down


@contextmanager
def _opened(path: str, reading: Reading) -> Iterator[Image.Image]:
    """Raises OSError, or ValueError of what is not opened by choice."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
        raise ValueError("not a regular file")
    if formats.is_raw(path):
        raise ValueError(formats.unread(path))
    # Pillow 13 maps a plain TIFF that it is given by name as if it stood upright.
    with open(path, "rb") as file, _limited(file, reading) as image:
        yield image


def _limited(file: IO[bytes], reading: Reading) -> Image.Image:
    try:
        image = Image.open(file)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(_too_large(reading)) from error
    if reason := too_large(Header(False, image.height, image.width), reading):
        raise ValueError(reason)  # Pillow itself only warns, up to twice as many
    return image


def too_large(header: Header, reading: Reading) -> str:
    """Why the image is not read for its size, or ""."""
    above = header.height * header.width > reading.max_pixels > 0
    return _too_large(reading) if above else ""


def _too_large(reading: Reading) -> str:
    return (
        f"of more than {reading.max_pixels:,} pixels, which may be an attack: if it is "
        "none, set config.data.max_pixels higher"
    )


def _has_more_frames(image: Image.Image) -> bool:
    try:
        return image.format in _OF_FRAMES and getattr(image, "is_animated", False)
    except Exception:  # the second is damaged, which the first need not be
        return True


def _eight_bits(image: Image.Image, white: int) -> tuple[Image.Image, int]:
    """Pixels of 16 bits (and of 32 that hold 16) by round(255 * value / white), and the
    largest value; what has 8 is as it is, and 0."""
    if image.mode == "F":
        raise ValueError(
            "floating-point pixels have no stated range: save 8 or 16 bits"
        )
    if not image.mode.startswith("I"):
        return image, 0
    values_HW = np.asarray(image).astype(np.int64)
    lowest, brightest = int(values_HW.min()), int(values_HW.max())
    if lowest < 0 or (brightest > 65_535 and not white):
        raise ValueError(
            f"pixels from {lowest} to {brightest} are not of 16 bits: save 8 or 16, or "
            "set config.data.white to the value that is white"
        )
    white = white or 65_535
    values_HW = (np.minimum(values_HW, white) * 255 + white // 2) // white
    return Image.fromarray(values_HW.astype(np.uint8)), brightest
