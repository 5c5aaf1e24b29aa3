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
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from ssl_jax.core import UserError
from ssl_jax.data import cache, image_files, layout
from ssl_jax.data.image_files import Header, Unreadable

_SIDE = 224  # pixels: the largest side to suggest
_UNREADABLE = "unreadable.json"  # beside the cached arrays


def load(
    data_dir: str,
    *,
    image_size: int,
    unlabeled: str = "unlabeled",
    strict: bool = False,
    labels: str = "",
) -> cache.Dataset:
    """The images below `data_dir`, as above, in natural order of their names.

    Images that cannot be decoded are listed in the log and left out. All have one
    channel if all files are grey, else three (`image_files.decode` says how they are
    brought to one form). names_N are paths relative to `data_dir` where they lie in it,
    else absolute ones.

    Args:
      image_size: side in pixels that every image is cropped (to a centred square) and
        resized to; 0: as they are, all of one size.
      unlabeled: a folder in `data_dir` or a path elsewhere; the default need not exist.
      strict: refuse images that cannot be decoded.
      labels: a CSV file that gives the classes where there are no class folders; not
        looked at where there are.

    Raises:
      UserError: a folder or image is missing or out of place, there are fewer than two
        classes, a class has no image that can be read, images differ in size and
        image_size=0, a line of the CSV file cannot be taken, or `strict`.
    """
    if image_size < 0:
        raise UserError(f"image_size={image_size} is negative: use 0 or a side.")
    files = layout.find(data_dir, unlabeled, labels)
    image_files.report_others(files.others)
    dataset = cache.cached(
        f"folder-{image_size or 'as-is'}-{_fingerprint(files)}",
        lambda out: _decode(files, image_size, strict, out),
    )
    image_files.report(_unreadable(dataset), strict=strict)
    return dataset


def unreadable(dataset: cache.Dataset) -> frozenset[str]:
    """Names of the images that `load` left out of this data set; of another one's
    none."""
    if not dataset.names_N:
        return frozenset()
    return frozenset(image.name for image in _unreadable(dataset))


def _unreadable(dataset: cache.Dataset) -> list[Unreadable]:
    beside = Path(dataset.images_NHWC.filename).with_name(_UNREADABLE)
    return [Unreadable(*pair) for pair in json.loads(beside.read_text())]


def _fingerprint(files: layout.Files) -> str:
    """What the cached arrays depend on: names, labels, sizes and dates."""
    digest = hashlib.sha256(os.fsencode("\0".join(files.class_names)))
    for part in (files.pool, files.test):
        digest.update(b"\0\0")
        for name, label in zip(part.names, part.labels, strict=True):
            try:
                status = os.stat(os.path.join(files.root, name))
                stamp = f"{status.st_size} {status.st_mtime_ns}"
            except OSError:  # a link to nothing, which cannot be read
                stamp = "missing"
            digest.update(os.fsencode(f"{name}\0{label} {stamp}\0"))
    return digest.hexdigest()[:16]


def _decode(files: layout.Files, image_size: int, strict: bool, out: Path) -> dict:
    """Decodes the images into `out` (see `cache.cached`)."""
    shape = _shape(files, image_size, strict)
    pool, bad = _write(files.root, files.pool, shape, out, "images_NHWC", "labels_N")
    _, bad_test = _write(
        files.root, files.test, shape, out, "test_images_MHWC", "test_labels_M"
    )
    image_files.report(bad + bad_test if strict else (), strict=strict)
    for label, class_name in enumerate(files.class_names):
        if not (pool.labels == label).any():
            (rows,) = np.nonzero(files.pool.labels == label)
            here = {files.pool.names[row] for row in rows}
            first = next(image for image in bad if image.name in here)
            raise UserError(
                f"none of the {len(here):,} images of the class {class_name!r} can be "
                f"read ({first.name}: {first.reason}): replace them, or remove the "
                "class."
            )
    (out / _UNREADABLE).write_text(json.dumps(bad + bad_test))
    return {"name": "folder", "class_names": files.class_names, "names": pool.names}


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
    part: layout.Part,
    shape: tuple[int, int, int],
    out: Path,
    images_name: str,
    labels_name: str,
) -> tuple[layout.Part, list[Unreadable]]:
    """Writes the images and labels that can be read: (these, the others)."""
    label_of = dict(zip(part.names, part.labels, strict=True))
    images = cache.create(out, images_name, (len(part.names), *shape), np.uint8)
    names, bad = [], []
    for good, images_BHWC, failed in image_files.decoded(root, part.names, shape):
        images[len(names) : len(names) + len(good)] = images_BHWC
        names += good
        bad += failed
    images.flush()
    if bad:
        _cut(out / f"{images_name}.npy", len(names))
    labels = cache.create(out, labels_name, (len(names),), np.int32)
    labels[:] = [label_of[name] for name in names]
    labels.flush()
    return layout.Part(names, np.array(labels)), bad


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
