"""Many image files: found below a folder, and decoded; one_image.py decodes one.

A file that its name or its content says is an image, but that cannot be decoded, is
`Unreadable`: whoever reads many files lists those and goes on, or refuses (`report`).
"""

import math
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from PIL import Image, UnidentifiedImageError

from ssl_jax.data import progress
from ssl_jax.data.sources import folder_names, formats, one_image
from ssl_jax.data.sources.one_image import Form, Header, Pixels, Reading
from ssl_jax.errors import UserError

_DEPTHS = (8, 10, 12, 14)  # bits that cameras and scanners save in 16
_BLOCK = 1024  # decoded images in memory at a time, at most
_BLOCK_BYTES = 2**28  # about, but no fewer than
_SMALL_BLOCK = 64  # images
_PIECE = 16  # files that a thread takes at a time
_SHOWN = 20  # names in a message


class Unreadable(NamedTuple):
    """An image that cannot be decoded."""

    name: str
    reason: str
    passing: bool = False  # the system could not read it, which it may in a moment


def natural(name: str) -> tuple[str, str]:
    """A sorting key: image_9 before image_10, the same on every machine."""
    return re.sub("[0-9]+", lambda digits: digits[0].zfill(20), name), name


def find(folder: str, apart: Sequence[str | None] = ()) -> list[str]:
    """The paths of all files below `folder`, folder by folder in natural order.

    Hidden files and folders are left out. What is not looked into stands there by its
    name and a slash: a folder of the system's (`folder_names.system`), a link to a
    folder that it lies in, or a link into a folder of `apart`.

    Args:
      apart: folders, or None, whose files belong to another set or class.

    Raises:
      UserError: a folder cannot be listed.
    """
    apart = [os.path.realpath(path) for path in apart if path]
    if _leads_into(folder, apart):
        return [f"{folder}/"]
    above = map(_identity, _parents(os.path.realpath(folder)))
    return list(_below(folder, (*above,), apart))


def _below(
    folder: str, above: tuple[tuple[int, int], ...], apart: Sequence[str]
) -> Iterator[str]:
    identity = _identity(folder)
    if identity in above:
        yield f"{folder}/"
        return
    for entry in _entries(folder):
        # A link may lead round, which only os.path takes for no folder.
        is_link = entry.is_symlink()
        is_folder = os.path.isdir(entry.path) if is_link else entry.is_dir()
        if is_folder and folder_names.system(entry.name):
            yield f"{entry.path}/"
        elif is_link and _leads_into(entry.path, apart):
            yield f"{entry.path}/"
        elif is_folder:
            yield from _below(entry.path, (*above, identity), apart)
        else:
            yield entry.path


def _parents(path: str) -> Iterator[str]:
    while (parent := os.path.dirname(path)) != path:
        yield parent
        path = parent


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _leads_into(link: str, folders: Sequence[str]) -> bool:
    real = os.path.realpath(link)
    return any(os.path.commonpath([real, folder]) == folder for folder in folders)


def listed(folder: str) -> list[str]:
    """The names of what is in `folder` and not hidden, in natural order."""
    return [entry.name for entry in _entries(folder)]


def _entries(folder: str) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(
            f"{folder} cannot be listed ({error.strerror}): mend its permissions, or "
            "move it elsewhere."
        ) from error
    return sorted(entries, key=lambda entry: natural(entry.name))


def name_below(root: str, path: str) -> str:
    """The path relative to `root`, with slashes; as it is where it lies elsewhere."""
    return path.removeprefix(root + os.sep).replace(os.sep, "/")


def images(paths: Sequence[str]) -> tuple[list[str], Counter]:
    """Those of the files that are images by suffix or content, and how many others
    there are by suffix ("" where they have none); folders that `find` did not look
    into, by name and a slash."""
    known = formats.suffixes()
    found, others = [], Counter()
    for path in paths:
        if path.endswith("/"):
            others[f"{os.path.basename(path[:-1])}/"] += 1
            continue
        suffix = os.path.splitext(path)[1].lower()
        if suffix in known or isinstance(attempt(one_image.header, path), Header):
            found.append(path)
        else:
            others[suffix] += 1
    return found, others


@contextmanager
def _threads(reading: Reading) -> Iterator[ThreadPoolExecutor]:
    """Threads that read files, for Pillow decodes outside the GIL; meanwhile its own
    limit, which it keeps in its module, is that of `reading`, and no mere warning."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, reading.max_pixels or None
    try:
        with ThreadPoolExecutor() as threads, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield threads
    finally:
        Image.MAX_IMAGE_PIXELS = before


def attempt(read: Callable[[str], Any], name: str, root: str = "") -> Any:
    """`read(path)` of the file `name` in `root`, or Unreadable where it fails."""
    path = os.path.join(root, name)
    try:
        return read(path)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        return Unreadable(name, _unidentified(path))
    except OSError as error:  # Pillow's own, of damaged files, have no number
        return Unreadable(name, error.strerror or str(error), error.errno is not None)
    except Exception as error:  # damaged files make Pillow raise nearly anything
        return Unreadable(name, str(error) or type(error).__name__)


def _unidentified(path: str) -> str:
    try:
        if not os.path.getsize(path):
            return "empty"
        return formats.unread(path) or "its content is no image"
    except OSError as error:  # it has just gone
        return str(error.strerror)


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


def headers(
    root: str, names: Sequence[str], turned: bool, reading: Reading
) -> Iterator[Header | Unreadable]:
    """`header` of each, in order."""
    read = partial(one_image.header, turned=turned, reading=reading)
    return _in_blocks(read, root, names, reading, _BLOCK)


def forms(
    root: str, names: Sequence[str], reading: Reading
) -> Iterator[Form | Unreadable]:
    """`form` of each, in order."""
    read = partial(one_image.form, reading=reading)
    return _in_blocks(read, root, names, reading, _BLOCK)


def _in_blocks(read, root, names, reading, block):
    for start in range(0, len(names), block):
        with _threads(reading) as threads:
            found = attempt_all(read, names[start : start + block], root, threads)
        yield from found


def _block(shape: tuple[int, int, int]) -> int:
    """How many images are decoded at a time."""
    return min(max(_BLOCK_BYTES // int(np.prod(shape)), _SMALL_BLOCK), _BLOCK)


def each(
    root: str, names: Sequence[str], shape: tuple[int, int, int], reading: Reading
) -> Iterator[Pixels | Unreadable]:
    """`decode` of each, in order."""
    read = partial(one_image.decode, shape=shape, reading=reading)
    return _in_blocks(read, root, names, reading, _block(shape))


def reader(
    root: str, names: Sequence[str], shape: tuple[int, int, int], reading: Reading
) -> Callable[[Sequence[int]], Iterator[np.ndarray]]:
    """A function: rows -> image_HWC of each, by `decode`, for `streams.Images`.

    It raises UserError where a file cannot be decoded.
    """
    decode = partial(one_image.decode, shape=shape, reading=reading)
    # Pillow's own limit is one for all threads. Ours stands in every header.
    if not 0 < reading.max_pixels <= (Image.MAX_IMAGE_PIXELS or math.inf):
        Image.MAX_IMAGE_PIXELS = None

    def read(rows):
        for row in rows:
            result = attempt(decode, names[row], root)
            if isinstance(result, Unreadable):
                raise UserError(
                    f"{names[row]} in {root} cannot be read ({result.reason}), which a "
                    "stream finds when it comes to it: put a readable image of that "
                    "name there and run the same command again, or have all images "
                    "decoded before the first step, by data.placement='host' and "
                    "another --workdir."
                )
            yield result.image_HWC

    return read


def decoded(
    root: str,
    names: Sequence[str],
    shape: tuple[int, int, int],
    reading: Reading = one_image.DEFAULT,
) -> Iterator[tuple[list[str], np.ndarray, list[Unreadable]]]:
    """Block by block of `names`: (those of B images, images_BHWC, the others); at the
    end `report_pixels`."""
    block = _block(shape)
    results = each(root, names, shape, reading)
    results = progress.shown(results, len(names), "reading images")
    several, brightest = 0, []
    for start in range(0, len(names), block):
        good, images, bad = [], [], []
        for name in names[start : start + block]:
            result = next(results)
            if isinstance(result, Unreadable):
                bad.append(result)
                continue
            good.append(name)
            images.append(result.image_HWC)
            several += result.several
            brightest.append(result.brightest)
        yield good, np.reshape(np.array(images, np.uint8), (-1, *shape)), bad
    report_pixels(several, brightest, reading.white)


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


def report_pixels(several: int, brightest_N: Sequence[int], white: int) -> None:
    """Says in the log what of files the pixels do not show.

    Args:
      several: files that have more than one frame.
      brightest_N: as in Pixels; white: as in Reading.
    """
    if several:
        logging.warning(
            "%d files have several frames or pages: the first of each is used.", several
        )
    deep = [value for value in brightest_N if value]
    if not deep:
        return
    top, bits = max(deep), next((b for b in _DEPTHS if max(deep) < 2**b), 16)
    if white and top > white:
        logging.warning(
            "%d of %d images of more than 8 bits have values above config.data.white="
            "%d, which become white; the brightest is %d.",
            *(sum(value > white for value in deep), len(deep), white, top),
        )
    if not white and bits < 16:
        logging.warning(
            "the brightest value of %d images of 16 bits is %d, as if they held %d: "
            "they are nearly black as long as 65535 is white; if %d is, set "
            "config.data.white=%d.",
            *(len(deep), top, bits, 2**bits - 1, 2**bits - 1),
        )


def report_others(others: Counter) -> None:
    """Says in the log how many files are no images, by suffix, and which folders were
    not looked into."""
    folders = Counter({s: n for s, n in others.items() if s.endswith("/")})
    if files := others - folders:
        logging.warning(
            "ignored %d files that are no images: %s", files.total(), suffixes(files)
        )
    if folders:
        logging.warning(
            "did not look into %d folders and links that hold no images of yours, or "
            "lead to where they lie or into another set: %s",
            *(folders.total(), suffixes(folders)),
        )


def suffixes(others: Counter) -> str:
    """As ".txt (3), without suffix (1)", the most frequent ones."""
    shown = [f"{s or 'without suffix'} ({n:,})" for s, n in others.most_common(_SHOWN)]
    return ", ".join(shown)
