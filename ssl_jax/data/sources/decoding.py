"""The images of a folder as arrays: only what is new or has changed is decoded.

An entry of the cache holds all images of a folder as they were at one time. The next
one copies the rows of files that it knows from those before it, by path, size, and the
times of the last change of content and of the inode. Content itself is not hashed: that
would read every photograph at every start. But size and date alone may be those of
another file, where an archive without dates was unpacked over an older one; the time of
the inode no program can set. Two folders are two, even with files that look alike.

An image that is found to be damaged is damaged until its file changes. What cannot be
opened is tried again each time: it may have been the network, or pillow-heif missing.

Images that are streamed (`placement.streams`) are opened here, for their sizes, and
decoded when they are asked for; no entry has them.
"""

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.data import cache, progress
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.placement import streams
from ssl_jax.data.sources import image_files, one_image
from ssl_jax.data.sources.image_files import Unreadable
from ssl_jax.data.sources.one_image import Header, Pixels, Reading
from ssl_jax.data.streams import Images
from ssl_jax.errors import UserError

_SIDE = 224  # pixels: the largest side to suggest
_FILES = "files.json"  # beside the arrays: what was read into which row
_ENTRIES = 4  # of the folder, the last used ones, that are looked through
_POOL, _TEST, _DAMAGED = "images_NHWC", "test_images_MHWC", "damaged"
_LABELS = {_POOL: "labels_N", _TEST: "test_labels_M"}

Stamp = tuple[int, ...]


class Decoded(NamedTuple):
    """What could be read, in the order of the names."""

    dataset: Dataset  # images without names, labels and classes
    unreadable: list[Unreadable]
    sizes: tuple[int, int]  # smallest and largest side, in pixels, as in the files
    several: int  # files with more than one frame
    brightest_N: list[int]  # of files of more than 8 bits


class _Known(NamedTuple):
    """What an entry of the cache says of a file."""

    header: Header
    several: bool = False
    brightest: int = 0
    images_NHWC: np.ndarray | None = None  # has it in `row`; None: it is damaged
    row: int = 0
    reason: str = ""  # why it is damaged


class _Seen(NamedTuple):
    """A file that can be opened."""

    name: str
    stamp: Stamp
    header: Header
    known: _Known | None


class _Row(NamedTuple):
    """Of an array, in files.json."""

    name: str
    stamp: Stamp
    header: Header
    several: bool
    brightest: int


class _Damaged(NamedTuple):
    """A file that is in no array, in files.json."""

    name: str
    stamp: Stamp
    header: Header
    reason: str


class _Written(NamedTuple):
    rows: list[_Row]
    damaged: list[_Damaged]
    lost: list[Unreadable]  # that the system could not read


def decoded(
    root: str,
    pool: Sequence[str],
    test: Sequence[str],
    image_size: int,
    reading: Reading,
    strict: bool,
    placement: str = "host",
    workers: int = 0,
) -> Decoded:
    """The images `pool` and `test` of the folder `root`, all in one shape.

    Args:
      placement: as in `placement.streams`; workers: as in `streams.Images`.

    Raises:
      UserError: none can be read, they differ in size and image_size=0, or one cannot
        be read, under `strict`.
    """
    prefix = _prefix(root, image_size, reading)
    seen, bad = _seen(root, [*pool, *test], _earlier(prefix), image_size, reading)
    if strict:
        known = [(f.name, f.known.reason) for f in seen.values() if f.known]
        wrong = [Unreadable(*pair) for pair in known if pair[1]]
        image_files.report([*bad, *wrong], strict=True)
    _check_any(root, seen, bad)
    shape = _shape([file.header for file in seen.values()], image_size)
    parts = {
        array: [seen[name] for name in names if name in seen]
        for array, names in ((_POOL, pool), (_TEST, test))
    }
    if streams(placement, math.prod(shape) * len(seen)):
        files = {array: [file.name for file in part] for array, part in parts.items()}
        sides = [side for file in seen.values() for side in file.header[1:]]
        dataset = _streamed(root, files, shape, reading, workers)
        return Decoded(dataset, bad, (min(sides), max(sides)), 0, [])
    lost = []

    def build(out: Path) -> dict:
        written = {
            array: _write(root, array, files, shape, reading, out)
            for array, files in parts.items()
        }
        damaged = [row for part in written.values() for row in part.damaged]
        lost.extend(image for part in written.values() for image in part.lost)
        if strict:
            image_files.report([*_damaged(damaged), *lost], strict=True)
        files = {array: part.rows for array, part in written.items()}
        (out / _FILES).write_text(json.dumps(files | {_DAMAGED: damaged}))
        key = _key(prefix, shape, parts, without={image.name for image in lost})
        return {"name": "folder", "class_names": (), "key": key}

    dataset = cache.cached(_key(prefix, shape, parts), build)
    files = _files(Path(dataset.images_NHWC.filename).parent)
    bad = {image.name: image for image in (*bad, *_damaged(files[_DAMAGED]), *lost)}
    bad = [bad[name] for name in (*pool, *test) if name in bad]
    rows = [_Row(*row) for array in (_POOL, _TEST) for row in files[array]]
    _check_any(root, rows, bad)
    sides = [side for row in rows for side in row.header[1:]]
    return Decoded(
        dataset,
        bad,
        (min(sides), max(sides)),
        sum(row.several for row in rows),
        [row.brightest for row in rows],
    )


def _streamed(
    root: str,
    names: Mapping[str, Sequence[str]],
    shape: tuple[int, int, int],
    reading: Reading,
    workers: int,
) -> Dataset:
    """The files of each array, without names, labels and classes."""
    arrays = {}
    for array, files in names.items():
        read = image_files.reader(root, files, shape, reading)
        arrays[array] = Images(read, (len(files), *shape), root, workers)
        arrays[_LABELS[array]] = np.full(len(files), -1, np.int32)
    return Dataset(name="folder", class_names=(), **arrays)


def _check_any(root: str, readable: Sized, bad: Sequence[Unreadable]) -> None:
    if not readable:
        raise UserError(
            f"of {len(bad):,} images in {root} none can be read ({bad[0].name}: "
            f"{bad[0].reason}): replace them."
        )


def _damaged(rows: Iterable[Sequence]) -> list[Unreadable]:
    return [Unreadable(row[0], row[-1]) for row in rows]


def _prefix(root: str, image_size: int, reading: Reading) -> str:
    """Of the entries whose rows are as these are to be."""
    which = os.fsencode(os.path.realpath(root)) + f"\0{reading.white}".encode()
    return f"folder-{image_size or 'as-is'}-{hashlib.sha256(which).hexdigest()[:8]}-"


def _key(
    prefix: str,
    shape: tuple[int, int, int],
    parts: Mapping[str, Sequence[_Seen]],
    without: Container[str] = (),
) -> str:
    """What the decoded images depend on: files, and what is made of them; not the
    labels, so that a new CSV file of them decodes nothing."""
    digest = hashlib.sha256(f"{shape}".encode())
    for part in parts.values():
        digest.update(b"\0\0")
        for file in part:
            if file.name not in without:
                digest.update(os.fsencode(f"{file.name}\0{file.stamp}\0"))
    return prefix + digest.hexdigest()[:16]


def _files(entry: Path) -> dict[str, Any]:
    return json.loads((entry / _FILES).read_text())


def _earlier(prefix: str) -> dict[tuple[str, Stamp], _Known]:
    """What the entries say of a file, by name and stamp; of two, the one used last."""
    known = {}
    for entry in reversed(cache.entries(prefix)[:_ENTRIES]):
        try:
            files = _files(entry)
            images = {a: np.load(entry / f"{a}.npy", mmap_mode="r") for a in _LABELS}
        except (OSError, ValueError):  # another process has just removed it
            continue
        for array, images_NHWC in images.items():
            for i, (name, stamp, header, several, brightest) in enumerate(files[array]):
                known[name, tuple(stamp)] = _Known(
                    Header(*header), several, brightest, images_NHWC, i
                )
        for name, stamp, header, reason in files[_DAMAGED]:
            known[name, tuple(stamp)] = _Known(Header(*header), reason=reason)
    return known


def _seen(
    root: str,
    names: Sequence[str],
    known: Mapping[tuple[str, Stamp], _Known],
    image_size: int,
    reading: Reading,
) -> tuple[dict[str, _Seen], list[Unreadable]]:
    """(the files that can be opened, by name; the others)."""
    stamps = {}
    for name in progress.shown(names, len(names), "looking at files"):
        try:
            status = os.stat(os.path.join(root, name))
        except OSError:  # a link to nothing, which cannot be read
            continue
        stamps[name] = status.st_size, status.st_mtime_ns, status.st_ctime_ns
    new = [name for name in names if (name, stamps.get(name)) not in known]
    headers = image_files.headers(root, new, not image_size, reading)
    read = dict(
        zip(new, progress.shown(headers, len(new), "opening images"), strict=True)
    )
    seen, bad = {}, []
    for name in names:
        before = known.get((name, stamps.get(name)))
        found = before.header if before else read[name]
        if before and (reason := one_image.too_large(found, reading)):
            found = Unreadable(name, reason)
        if isinstance(found, Unreadable):
            bad.append(found)
        else:
            seen[name] = _Seen(name, stamps.get(name, ()), found, before)
    return seen, bad


def _shape(headers: Sequence[Header], image_size: int) -> tuple[int, int, int]:
    """(H, W, C) for all images."""
    channels = 1 if all(header.grey for header in headers) else 3
    if image_size:
        return image_size, image_size, channels
    sizes = Counter((header.height, header.width) for header in headers)
    if len(sizes) > 1:
        shown = [f"{w}x{h} ({n:,})" for (h, w), n in sizes.most_common(10)]
        more = f" and {len(sizes) - 10:,} more" if len(sizes) > 10 else ""
        raise UserError(
            f"the images have {len(sizes):,} sizes: {', '.join(shown)}{more}; set "
            f"config.data.image_size to bring all to one, such as {suggested(headers)}."
        )
    return *next(iter(sizes)), channels


def suggested(headers: Sequence[Header]) -> int:
    """Pixels a side to bring images of several sizes to."""
    side = np.median([min(header.height, header.width) for header in headers])
    return min(int(side), _SIDE)


def _write(
    root: str,
    array: str,
    files: Sequence[_Seen],
    shape: tuple[int, int, int],
    reading: Reading,
    out: Path,
) -> _Written:
    """Writes the images that can be read into out/array.npy, and labels -1 beside."""
    images = cache.create(out, array, (len(files), *shape), np.uint8)
    there = [_known(file, shape) for file in files]
    new = [file.name for file, known in zip(files, there, strict=True) if not known]
    decoded = image_files.each(root, new, shape, reading)
    decoded = progress.shown(decoded, len(new), "decoding images")
    rows, damaged, lost = [], [], []
    for file, known in zip(files, there, strict=True):
        result = _result(file.name, known, shape) if known else next(decoded)
        if isinstance(result, Pixels):
            images[len(rows)] = result.image_HWC
            rows.append(_Row(*file[:3], result.several, result.brightest))
        elif result.passing:
            lost.append(result)
        else:
            damaged.append(_Damaged(*file[:3], result.reason))
    images.flush()
    if len(rows) < len(files):
        _cut(out / f"{array}.npy", len(rows))
    labels_N = np.full(len(rows), -1, np.int32)
    np.save(out / f"{_LABELS[array]}.npy", labels_N)
    return _Written(rows, damaged, lost)


def _known(file: _Seen, shape: tuple[int, int, int]) -> _Known | None:
    """What is known of the file, if that says what is to be written."""
    known = file.known
    if known is None or known.images_NHWC is None:
        return known
    return known if known.images_NHWC.shape[1:3] == shape[:2] else None


def _result(
    name: str, known: _Known, shape: tuple[int, int, int]
) -> Pixels | Unreadable:
    """As it was decoded. Grey in three channels is the same in each."""
    if known.images_NHWC is None:
        return Unreadable(name, known.reason)
    image_HWC = known.images_NHWC[known.row]
    if shape[2] < image_HWC.shape[2]:
        image_HWC = image_HWC[:, :, :1]
    return Pixels(np.broadcast_to(image_HWC, shape), known.several, known.brightest)


def _cut(path: Path, rows: int) -> None:
    """Leaves the first rows of a `.npy` file: NumPy pads headers for such changes."""
    with path.open("r+b") as file:
        np.lib.format.read_magic(file)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
        shape = (rows, *shape[1:])
        file.seek(0)
        np.lib.format.write_array_header_1_0(
            file,
            {
                "descr": np.lib.format.dtype_to_descr(dtype),
                "fortran_order": fortran_order,
                "shape": shape,
            },
        )
        if file.tell() != start:
            raise RuntimeError(f"NumPy wrote another header into {path}")
        file.truncate(start + int(np.prod(shape)) * dtype.itemsize)
