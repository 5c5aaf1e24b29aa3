"""A folder of images as a data set.

    photos/cat/*.jpg, photos/dog/*.jpg    a folder per class, searched to any depth
    photos/unlabeled/**                   images without a label; or any other folder
    photos/test/cat/*.jpg, ...            optional: the test set

Images that lie in `photos` itself have no label either. Where there is no class folder,
the classes are those that a CSV file names (see `answers`), and its labels count.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from ssl_jax.data import cache
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.sources import image_files, layout
from ssl_jax.data.sources.image_files import Header, Unreadable
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError

_SIDE = 224  # pixels: the largest side to suggest
_LOOKED_AT = 512  # pixels: the longer side of what is shown to people
_UNREADABLE = "unreadable.json"  # beside the cached arrays


MAY_CHANGE = True  # it is the user's own


def serves(name: str) -> bool:
    return name == "folder"


def load(wanted: Wanted) -> Dataset:
    """The images below `wanted.dir`, as above, in natural order of their names: those
    in class folders, then the others.

    Images that cannot be decoded are listed in the log and left out. All have one
    channel if all files are grey, else three (`image_files.decode` says how they are
    brought to one form). names_N are paths relative to `wanted.dir` where they lie in
    it, else absolute ones.

    Of `wanted`:
      image_size: side in pixels that every image is cropped (to a centred square) and
        resized to; 0: as they are, all of one size.
      unlabeled: a folder in `dir` or a path elsewhere; the default need not exist.
      strict: refuse images that cannot be decoded.
      labels: a CSV file that gives the classes where there are no class folders; not
        looked at where there are.

    Raises:
      UserError: a folder or image is missing or out of place, there are fewer than two
        classes, a class has no image that can be read, images differ in size and
        image_size=0, a line of the CSV file cannot be taken, or `strict`.
    """
    if wanted.image_size < 0:
        raise UserError(f"image_size={wanted.image_size} is negative: use 0 or a side.")
    files = layout.find(
        wanted.dir, wanted.unlabeled, wanted.labels, gone=wanted.changed == "accept"
    )
    image_files.report_others(files.others)
    dataset = cache.cached(
        f"folder-{wanted.image_size or 'as-is'}-{_fingerprint(files)}",
        lambda out: _decode(files, wanted.image_size, wanted.strict, out),
    )
    beside = Path(dataset.images_NHWC.filename).with_name(_UNREADABLE)
    bad = [Unreadable(*pair) for pair in json.loads(beside.read_text())]
    image_files.report(bad, strict=wanted.strict)
    pool, test = (_without(part, bad) for part in (files.pool, files.test))
    _check_classes(files, pool, bad)
    return dataset._replace(
        labels_N=pool.labels,
        test_labels_M=test.labels,
        class_names=files.class_names,
        names_N=tuple(pool.names),
        unreadable=frozenset(image.name for image in bad),
    )


def original(wanted: Wanted, name: str) -> np.ndarray:
    """image_HWC of the file that names_N calls `name`, whole and at its resolution, up
    to what a figure shows. Raises what Pillow raises."""
    path = os.path.join(os.path.expanduser(wanted.dir), name)
    grey, height, width = image_files.header(path, turned=True)
    scale = min(1, _LOOKED_AT / max(height, width))
    shape = max(1, round(scale * height)), max(1, round(scale * width))
    return image_files.decode(path, (*shape, 1 if grey else 3))


def _without(part: layout.Part, bad: list[Unreadable]) -> layout.Part:
    """What is left of it."""
    left_out = {image.name for image in bad}
    rows = [row for row, name in enumerate(part.names) if name not in left_out]
    return layout.Part([part.names[row] for row in rows], part.labels[rows])


def _check_classes(
    files: layout.Files, readable: layout.Part, bad: list[Unreadable]
) -> None:
    """Raises UserError where no image of a class can be read."""
    for label, class_name in enumerate(files.class_names):
        if (readable.labels == label).any():
            continue
        (rows,) = np.nonzero(files.pool.labels == label)
        here = {files.pool.names[row] for row in rows}
        first = next(image for image in bad if image.name in here)
        raise UserError(
            f"none of the {len(here):,} images of the class {class_name!r} can be read "
            f"({first.name}: {first.reason}): replace them, or remove the class."
        )


def _fingerprint(files: layout.Files) -> str:
    """What the decoded images depend on: names, sizes and dates; not the labels, so
    that a new CSV file of them decodes nothing."""
    digest = hashlib.sha256()
    for part in (files.pool, files.test):
        digest.update(b"\0\0")
        for name in part.names:
            try:
                status = os.stat(os.path.join(files.root, name))
                stamp = f"{status.st_size} {status.st_mtime_ns}"
            except OSError:  # a link to nothing, which cannot be read
                stamp = "missing"
            digest.update(os.fsencode(f"{name}\0{stamp}\0"))
    return digest.hexdigest()[:16]


def _decode(files: layout.Files, image_size: int, strict: bool, out: Path) -> dict:
    """Decodes the images into `out` (see `cache.cached`), without names and labels."""
    shape = _shape(files, image_size, strict)
    bad = [
        *_write(files.root, files.pool.names, shape, out, "images_NHWC", "labels_N"),
        *_write(
            *(files.root, files.test.names, shape, out),
            *("test_images_MHWC", "test_labels_M"),
        ),
    ]
    image_files.report(bad if strict else (), strict=strict)
    (out / _UNREADABLE).write_text(json.dumps(bad))
    return {"name": "folder", "class_names": ()}


def _shape(files: layout.Files, image_size: int, strict: bool) -> tuple[int, int, int]:
    """(H, W, C) for all images, by their headers."""
    names = [*files.pool.names, *files.test.names]
    read_header = partial(image_files.header, turned=not image_size)
    with ThreadPoolExecutor() as threads:
        read = image_files.attempt_all(read_header, names, files.root, threads)
    bad = [result for result in read if isinstance(result, Unreadable)]
    image_files.report(bad if strict else (), strict=strict)
    headers = [result for result in read if isinstance(result, Header)]
    if not headers:
        raise UserError(
            f"of {len(bad):,} images in {files.root} none can be read ({bad[0].name}: "
            f"{bad[0].reason}): replace them."
        )
    channels = 1 if all(header.grey for header in headers) else 3
    if image_size:
        return image_size, image_size, channels
    sizes = Counter((header.height, header.width) for header in headers)
    if len(sizes) > 1:
        shown = [f"{w}x{h} ({n:,})" for (h, w), n in sizes.most_common(10)]
        more = f" and {len(sizes) - 10:,} more" if len(sizes) > 10 else ""
        side = int(np.median([min(header.height, header.width) for header in headers]))
        raise UserError(
            f"the images have {len(sizes):,} sizes: {', '.join(shown)}{more}; set "
            f"config.data.image_size to bring all to one, such as {min(side, _SIDE)}."
        )
    return *next(iter(sizes)), channels


def _write(
    root: str,
    names: Sequence[str],
    shape: tuple[int, int, int],
    out: Path,
    images_name: str,
    labels_name: str,
) -> list[Unreadable]:
    """Writes the images that can be read, all with the label -1; returns the rest."""
    images = cache.create(out, images_name, (len(names), *shape), np.uint8)
    readable, bad = 0, []
    for _, images_BHWC, failed in image_files.decoded(root, names, shape):
        images[readable : readable + len(images_BHWC)] = images_BHWC
        readable += len(images_BHWC)
        bad += failed
    images.flush()
    if bad:
        _cut(out / f"{images_name}.npy", readable)
    np.save(out / f"{labels_name}.npy", np.full(readable, -1, np.int32))
    return bad


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
