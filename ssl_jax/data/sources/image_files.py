"""Image files of any format that Pillow opens: found below a folder, and decoded.

A file that its name or its content says is an image, but that cannot be decoded, is
`Unreadable`: whoever reads many files lists those and goes on, or refuses (`report`).
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from PIL import Image, ImageOps, UnidentifiedImageError

from ssl_jax.errors import UserError

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
_BLOCK = 1024  # decoded images in memory at a time, at most
_BLOCK_BYTES = 2**28  # about, but no fewer than
_SMALL_BLOCK = 64  # images
_PIECE = 16  # files that a thread takes at a time
_SHOWN = 20  # names in a message


class Unreadable(NamedTuple):
    """An image that cannot be decoded."""

    name: str
    reason: str


class Header(NamedTuple):
    """What a file says of its image before its pixels are decoded."""

    grey: bool
    height: int
    width: int


def natural(name: str) -> tuple[str, str]:
    """A sorting key: image_9 before image_10, the same on every machine."""
    return re.sub("[0-9]+", lambda digits: digits[0].zfill(20), name), name


def find(folder: str) -> list[str]:
    """The paths of all files below `folder`, folder by folder in natural order.

    Hidden files and folders are left out. Links are followed, but not one to a folder
    that it lies in.

    Raises:
      UserError: a folder cannot be listed.
    """
    return list(_below(folder, ()))


def _below(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in above:
        return
    above = *above, (status.st_dev, status.st_ino)
    for name in listed(folder):
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            yield from _below(path, above)
        else:
            yield path


def listed(folder: str) -> list[str]:
    """What is in `folder` and not hidden, in natural order."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be listed ({error.strerror}): mend its permissions, or "
            "move it elsewhere."
        ) from error
    return sorted((name for name in names if not name.startswith(".")), key=natural)


def name_below(root: str, path: str) -> str:
    """The path relative to `root`, with slashes; as it is where it lies elsewhere."""
    return path.removeprefix(root + os.sep).replace(os.sep, "/")


def images(paths: Sequence[str]) -> tuple[list[str], Counter]:
    """Those of the files that are images by suffix or content, and how many others
    there are by suffix ("" where they have none)."""
    Image.init()
    suffixes = {
        suffix
        for suffix, form in Image.registered_extensions().items()
        if form in Image.OPEN
    }
    found, others = [], Counter()
    for path in paths:
        suffix = os.path.splitext(path)[1].lower()
        if suffix in suffixes or isinstance(attempt(header, path), Header):
            found.append(path)
        else:
            others[suffix] += 1
    return found, others


def header(path: str, turned: bool = False) -> Header:
    """Raises what Pillow raises. `turned`: with the height and width as EXIF turns the
    image, for which Pillow decodes some files."""
    with _opened(path) as image:
        grey, (width, height) = image.mode in _GREY, image.size
        if turned and image.getexif().get(_ORIENTATION, 1) >= 5:  # on its side
            width, height = ImageOps.exif_transpose(image).size  # TIFF's has it already
        return Header(grey, height, width)


def decode(path: str, shape: tuple[int, int, int]) -> np.ndarray:
    """image_HWC of a file, uint8: its first frame, turned as EXIF says, with
    transparent pixels on BACKGROUND; grey where `shape` has one channel, RGB where it
    has three; of another size, its centre resized (as by `tfds_source.fit`).

    16 bits are scaled to 8. Raises what Pillow raises, or ValueError where pixels have
    no range to scale from.
    """
    height, width, channels = shape
    with _opened(path) as image:
        # A photograph of many times the size is decoded at a half, a quarter or an
        # eighth, if that leaves twice what is asked for, either way up (JPEG only, 4.5
        # times as fast). Its edge is then within the last row and column of pixels.
        drafted = image.draft(None, (2 * max(height, width),) * 2)
        image.load()
        box = drafted[1] if drafted else (0, 0, *image.size)
        orientation = image.getexif().get(_ORIENTATION, 1)
        plain = _eight_bits(image)
        if plain.has_transparency_data:
            plain = plain.convert("RGBA")
            background = Image.new("RGBA", plain.size, BACKGROUND)
            plain = Image.alpha_composite(background, plain)
        plain = plain.convert("L" if channels == 1 else "RGB")
    size = (height, width) if orientation >= 5 else (width, height)
    fitted = plain.resize(size, Image.Resampling.BICUBIC, _centre(box, size))
    if orientation in _TURNS:
        fitted = fitted.transpose(_TURNS[orientation])
    return np.asarray(fitted).reshape(shape)


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
def _opened(path: str) -> Iterator[Image.Image]:
    """Raises OSError, or Image.DecompressionBombError past Pillow's own limit."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
        raise OSError("not a regular file")
    # Pillow 13 maps a plain TIFF that it is given by name as if it stood upright.
    with open(path, "rb") as file, Image.open(file) as image:
        pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
        if limit and pixels > limit:  # Pillow itself only warns, up to twice as many
            raise Image.DecompressionBombError(
                f"{pixels} pixels, and above {limit} Pillow takes it for an attack"
            )
        yield image


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit pixels (and 32-bit ones that hold 16) by round(value / 257)."""
    if image.mode == "F":
        raise ValueError(
            "floating-point pixels have no stated range: save 8 or 16 bits"
        )
    if not image.mode.startswith("I"):
        return image
    values_HW = np.asarray(image).astype(np.int64)
    if values_HW.min() < 0 or values_HW.max() > 65_535:
        raise ValueError(
            f"pixels from {values_HW.min()} to {values_HW.max()} are not of 16 bits: "
            "save 8 or 16"
        )
    return Image.fromarray(((values_HW + 128) // 257).astype(np.uint8))


def attempt(read: Callable[[str], Any], name: str, root: str = "") -> Any:
    """`read(path)` of the file `name` in `root`, or Unreadable where it fails."""
    path = os.path.join(root, name)
    try:
        return read(path)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        empty = not os.path.getsize(path)
        return Unreadable(name, "empty" if empty else "its content is no image")
    except OSError as error:
        return Unreadable(name, error.strerror or str(error))
    except Exception as error:  # damaged files make Pillow raise nearly anything
        return Unreadable(name, str(error) or type(error).__name__)


def attempt_all(
    read: Callable[[str], Any],
    names: Sequence[str],
    root: str,
    threads: ThreadPoolExecutor,
) -> list[Any]:
    """`attempt` for every name, in order."""
    pieces = [names[i : i + _PIECE] for i in range(0, len(names), _PIECE)]

    def of_piece(piece):
        return [attempt(read, name, root) for name in piece]

    return [result for results in threads.map(of_piece, pieces) for result in results]


def decoded(
    root: str, names: Sequence[str], shape: tuple[int, int, int]
) -> Iterator[tuple[list[str], np.ndarray, list[Unreadable]]]:
    """Block by block of `names`: (those of B images, images_BHWC, the others)."""
    block = min(max(_BLOCK_BYTES // int(np.prod(shape)), _SMALL_BLOCK), _BLOCK)
    with ThreadPoolExecutor() as threads:  # Pillow decodes outside the GIL
        for start in range(0, len(names), block):
            part = names[start : start + block]
            results = attempt_all(partial(decode, shape=shape), part, root, threads)
            good, bad = [], []
            for name, result in zip(part, results, strict=True):
                if isinstance(result, Unreadable):
                    bad.append(result)
                else:
                    good.append((name, result))
            images_BHWC = np.zeros((len(good), *shape), np.uint8)
            for i, (_, image_HWC) in enumerate(good):
                images_BHWC[i] = image_HWC
            yield [name for name, _ in good], images_BHWC, bad


def report(unreadable: Sequence[Unreadable], *, strict: bool) -> None:
    """Lists images that cannot be read in the log, the first of them by name.

    Raises:
      UserError: there is one, under `strict`.
    """
    total = len(unreadable)
    if not total:
        return
    lines = [f"  {image.name}: {image.reason}" for image in unreadable[:_SHOWN]]
    if total > len(lines):
        lines.append(f"  and {total - len(lines):,} more")
    what = "\n".join([f"{total:,} images that cannot be read:", *lines])
    if strict:
        raise UserError(
            f"config.data.strict=True, and there are {what}\nReplace or remove them, "
            "or set config.data.strict=False to skip such images."
        )
    logging.warning("skipped %s", what)


def report_others(others: Counter) -> None:
    """Says in the log how many files are no images, by suffix."""
    if others:
        logging.warning(
            "ignored %d files that are no images: %s", others.total(), suffixes(others)
        )


def suffixes(others: Counter) -> str:
    """As ".txt (3), without suffix (1)", the most frequent ones."""
    shown = [f"{s or 'without suffix'} ({n:,})" for s, n in others.most_common(_SHOWN)]
    return ", ".join(shown)
