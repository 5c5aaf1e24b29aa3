"""Image classification data sets of TensorFlow Datasets, read without TensorFlow.

A copy in array_record form is read through tfds' data source, which needs no
TensorFlow; only preparing a copy that is not there imports it. Where images stay in
their records (`placement.streams`), labels and order are read once and kept.
"""

import hashlib
import io
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ssl_jax.data import cache, progress
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.placement import streams
from ssl_jax.data.sources.tfds_prepare import (
    check_features,
    data_root,
    find_prepared,
    prepare,
)
from ssl_jax.data.streams import Images
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError

_MODES = {1: "L", 3: "RGB", 4: "RGB"}  # Pillow's, by channels; alpha is dropped
_BLOCK = 1024  # images in memory at a time
_PIECE = 64  # images that a thread takes at a time
# Their builders number the rows from 0, and tfds stores rows sorted by a hash of the
# split's name and that number: so the original order can be restored.
_NUMBERED = ("mnist", "stl10")
_NO_TEST_LABELS = ("imagenet2012",)  # it is tested on the split "validation"

STREAMS = True


def load(wanted: Wanted) -> Dataset:
    """The data set `wanted.name` ("cifar10", "imagenette/160px", "mnist:3.0.1").

    Rows that have an `id` are sorted by it, so that index lists published for the
    original order apply; MNIST's original order is restored as well. The pool is the
    split "train", then "extra" if asked for, then "unlabelled" where there is one; the
    test set is the split "test", else "validation".

    Of `wanted`:
      dir: where tfds keeps its data; "": TFDS_DATA_DIR, else its default.
      image_size: side in pixels that every image is cropped (to a centred square) and
        resized to; 0: as they are, all of one shape.
      extra: whether the split "extra" (SVHN's easier images) joins the pool.
      placement: "stream", or "auto" where they are many (`placement.streams`): images
        stay in their records.

    Raises:
      UserError: no such data set or folder, it cannot be prepared, or its features,
        labels or image shapes are not those of image classification. Or its images are
        streamed, and nothing says their one size.
    """
    name, image_size, extra = wanted.name, wanted.image_size, wanted.extra
    root = data_root(wanted.dir)
    folder = find_prepared(root, name) or prepare(root, name)
    parts = folder.relative_to(root).parts
    fingerprint = cache.fingerprint(folder.iterdir())
    if streams(wanted.placement, _nbytes(folder, image_size)):
        key = "-".join([*parts, f"labels{'+extra' * extra}", fingerprint])
        return _streamed(wanted, folder, key)
    size = f"{image_size or 'as-is'}{'+extra' * extra}"
    return cache.cached(
        "-".join([*parts, size, fingerprint]),
        lambda out: _decode(name, folder, image_size, extra, out),
    )


def _nbytes(folder: Path, image_size: int) -> int:
    """Of all images, by what lies beside the records; 0 where it does not say."""
    try:
        features = json.loads((folder / "features.json").read_text())
        info = json.loads((folder / "dataset_info.json").read_text())
        image = features["featuresDict"]["features"]["image"]["image"]
        shape = [int(side) for side in image["shape"]["dimensions"]]
        lengths = [split["shardLengths"] for split in info["splits"]]
    except (OSError, KeyError):  # of another form, or no images: found elsewhere
        return 0
    if image_size:
        shape[:2] = image_size, image_size
    return math.prod(shape) * sum(map(int, sum(lengths, []))) if min(shape) > 0 else 0


def _decode(name: str, folder: Path, image_size: int, extra: bool, out: Path) -> dict:
    """Decodes a prepared copy into `out` (see `cache.cached`)."""
    builder = _builder(name, folder)
    *pool, test = _splits(name, builder, extra)
    pool = [_Split(builder, split, image_size) for split in pool]
    shape = pool[0].first_shape()
    _write(out, "", "N", pool, shape)
    _write(out, "test_", "M", [_Split(builder, test, image_size)], shape)
    return {"name": name, "class_names": builder.info.features["label"].names}


def _streamed(wanted: Wanted, folder: Path, key: str) -> Dataset:
    """A prepared copy whose images stay in it; `key` is of the cache, which has the
    order of its rows, and their labels."""
    name, image_size = wanted.name, wanted.image_size
    builder = _builder(name, folder)
    shape = _one_shape(name, builder.info.features["image"], image_size)
    names = _splits(name, builder, wanted.extra)

    def build(out):
        for split in (_Split(builder, split, image_size) for split in names):
            np.save(out / f"{split.name}_order.npy", split.order)
            np.save(out / f"{split.name}_labels.npy", split.labels())
        return {}

    kept, _ = cache.entry(key, build)
    splits = [
        _Split(builder, split, image_size, np.load(kept / f"{split}_order.npy"))
        for split in names
    ]
    arrays = {}
    for prefix, letter, part in (("", "N", splits[:-1]), ("test_", "M", splits[-1:])):
        images = _reader(part, shape), (sum(map(len, part)), *shape)
        arrays[f"{prefix}images_{letter}HWC"] = Images(*images, name, wanted.workers)
        labels = [np.load(kept / f"{split.name}_labels.npy") for split in part]
        arrays[f"{prefix}labels_{letter}"] = np.concatenate(labels)
    class_names = tuple(builder.info.features["label"].names)
    return Dataset(name=name, class_names=class_names, **arrays)


def _one_shape(name: str, feature, image_size: int) -> tuple[int, int, int]:
    """(H, W, C) of every image."""
    height, width, channels = feature.shape
    sides = (image_size, image_size) if image_size else (height, width)
    if None in sides:
        raise UserError(
            f"the images of {name} may differ in size, and a stream needs one: set "
            "config.data.image_size to bring all to it, such as 224."
        )
    return *sides, 1 if channels == 1 else 3


def _reader(
    splits: list["_Split"], shape: tuple[int, int, int]
) -> Callable[[Sequence[int]], Iterator[np.ndarray]]:
    """A function: rows of the joined splits -> image_HWC of each, for `Images`."""
    starts = np.cumsum([0, *map(len, splits)])

    def read(rows):
        which = np.searchsorted(starts, rows, side="right") - 1
        at = zip(which.tolist(), rows, strict=True)
        for number, group in itertools.groupby(at, key=lambda pair: pair[0]):
            positions = [row - int(starts[number]) for _, row in group]
            yield from splits[number].read(positions, shape)

    return read


def _builder(name: str, folder: Path):
    """tfds' builder of a prepared copy, without TensorFlow."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    check_features(name, builder.info.features)
    return builder


def _splits(name: str, builder, extra: bool) -> list[str]:
    """The names of the splits that are the pool, and of the one to test on."""
    names = builder.info.splits
    has_test = "test" in names and builder.name not in _NO_TEST_LABELS
    test = "test" if has_test else "validation"
    if "train" not in names or test not in names:
        raise UserError(
            f"{name} has the splits {', '.join(names)}: it must have 'train', and "
            "'test' or 'validation'; use another data set."
        )
    if extra and "extra" not in names:
        raise UserError(
            f"{name} has the splits {', '.join(names)}, and no 'extra': set "
            "config.data.extra=False."
        )
    wanted = ("train", "extra", "unlabelled") if extra else ("train", "unlabelled")
    return [*(split for split in wanted if split in names), test]


class _Split:
    """Images and labels of one split of a prepared copy, in the order of their ids.

    Args:
      order: the records in that order, where it is known.
    """

    def __init__(
        self, builder, name: str, image_size: int, order: np.ndarray | None = None
    ):
        import tensorflow_datasets as tfds

        features = builder.info.features
        self.name, self.image_size, self.folder = name, image_size, builder.data_dir
        self.mode = _MODES[features["image"].shape[-1] or 3]
        self.num_classes = features["label"].num_classes
        self.source = builder.as_data_source(
            split=name,
            decoders={
                key: tfds.decode.SkipDecoding()
                for key, feature in features.items()
                if isinstance(feature, tfds.features.Image)
            },
        )
        self.order = np.arange(len(self.source)) if order is None else order
        if order is not None:
            return
        if "id" in features:
            ids = [row["id"] for rows in self._blocks() for row in rows]
            self.order = np.asarray(sorted(self.order, key=lambda i: _natural(ids[i])))
        elif builder.name in _NUMBERED:
            self.order = np.argsort(sorted(self.order, key=self._hash))

    def __len__(self) -> int:
        return len(self.order)

    def _hash(self, number: int) -> bytes:
        """What tfds sorts by (tensorflow_datasets/core/hashing.py)."""
        return hashlib.md5(f"{self.name}{number}".encode()).digest()

    def first_shape(self) -> tuple[int, ...]:
        """(H, W, C) of the first image."""
        return self._image(next(self._blocks())[0]).shape

    def decoded(
        self, shape: tuple[int, ...]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of (images_BHWC, labels_B).

        Raises:
          UserError: an image is not of `shape`, or a label is outside the classes.
        """
        position = 0
        with ThreadPoolExecutor() as threads:  # Pillow decodes outside the GIL
            for rows in self._blocks():
                pieces = [rows[i : i + _PIECE] for i in range(0, len(rows), _PIECE)]
                images = [
                    image
                    for piece in threads.map(self._images, pieces)
                    for image in piece
                ]
                labels_B = np.asarray([row["label"] for row in rows])
                for row, image in zip(rows, images, strict=True):
                    if image.shape != shape:
                        raise UserError(
                            f"image shape unlike the first: {self._at(row, position)} "
                            f"is {image.shape}, the first is {shape}; set "
                            "config.data.image_size to bring all to one size."
                        )
                    self._check_label(row, position)
                    position += 1
                yield np.stack(images), labels_B

    def labels(self) -> np.ndarray:
        """labels_N, from all records.

        Raises:
          UserError: one is outside the classes.
        """
        what = f"reading labels of {self.name}"
        blocks = progress.shown(self._blocks(), len(self), what, size=len)
        rows = itertools.chain.from_iterable(blocks)
        labels_N = np.empty(len(self), np.int32)
        for position, row in enumerate(rows):
            self._check_label(row, position)
            labels_N[position] = row["label"]
        return labels_N

    def read(
        self, positions: Sequence[int], shape: tuple[int, ...]
    ) -> Iterator[np.ndarray]:
        """image_HWC of each.

        Raises:
          UserError: a record cannot be read or decoded, or is not of `shape`.
        """
        numbers = self.order[positions].tolist()
        for number, row in zip(numbers, self._records(numbers), strict=True):
            try:
                image_HWC = self._image(row)
            except Exception as error:  # damaged ones make Pillow raise nearly anything
                raise self._unreadable(number, error) from error
            if image_HWC.shape != shape:
                raise UserError(
                    f"{self.folder}: the image in record {number} of the split "
                    f"{self.name!r} is {image_HWC.shape}, where all were to be "
                    f"{shape}; set config.data.image_size to bring all to one size."
                )
            yield image_HWC

    def _records(self, numbers: list[int]) -> Iterator[dict]:
        try:
            yield from self.source.__getitems__(numbers)
        except RuntimeError:  # array_record's, which does not say of which
            for number in numbers:
                try:
                    self.source[number]
                except RuntimeError as error:
                    raise self._unreadable(number, error) from error
            raise

    def _unreadable(self, number: int, error: Exception) -> UserError:
        return UserError(
            f"{self.folder}: record {number} of the split {self.name!r} cannot be read "
            f"({error}); copy or prepare that folder again, and run the same command."
        )

    def _at(self, row: dict, position: int) -> str:
        return f"{self.name} row {_text(row.get('id', position))}"

    def _check_label(self, row: dict, position: int) -> None:
        unlabelled = self.name == "unlabelled"
        valid = range(-1, 0) if unlabelled else range(self.num_classes)
        if row["label"] not in valid:
            raise UserError(
                f"label outside the classes: {self._at(row, position)} has label "
                f"{row['label']}, and the {self.num_classes} classes are 0 to "
                f"{self.num_classes - 1}; mend that row and prepare the data set again."
            )

    def _blocks(self) -> Iterator[list[dict]]:
        for start in range(0, len(self.order), _BLOCK):
            block = self.order[start : start + _BLOCK]
            try:
                yield self.source.__getitems__([int(i) for i in block])
            except RuntimeError as error:  # array_record's, for a damaged file
                raise UserError(
                    f"{self.folder}: the split {self.name!r} cannot be read ({error}); "
                    "copy or prepare that folder again."
                ) from error

    def _images(self, rows: list[dict]) -> list[np.ndarray]:
        return [self._image(row) for row in rows]

    def _image(self, row: dict) -> np.ndarray:
        image = Image.open(io.BytesIO(row["image"]))
        if image.mode != self.mode:
            image = image.convert(self.mode)
        if self.image_size:
            image = fit(image, self.image_size)
        image_HWC = np.asarray(image)
        return image_HWC if image_HWC.ndim == 3 else image_HWC[:, :, None]


def fit(image: Image.Image, side: int) -> Image.Image:
    """The centred square of an image, resized (antialiased) to `side` pixels."""
    return ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)


def _write(out: Path, prefix: str, letter: str, splits: list[_Split], shape) -> None:
    """Decodes `splits`, one after the other, into two `.npy` files in `out`."""
    num_rows = sum(map(len, splits))
    images = cache.create(
        out, f"{prefix}images_{letter}HWC", (num_rows, *shape), np.uint8
    )
    labels = cache.create(out, f"{prefix}labels_{letter}", (num_rows,), np.int32)
    start = 0
    for split in splits:
        blocks = progress.shown(
            split.decoded(shape),
            len(split),
            f"decoding images of {split.name}",
            size=lambda block: len(block[1]),
        )
        for images_BHWC, labels_B in blocks:
            end = start + len(labels_B)
            images[start:end], labels[start:end] = images_BHWC, labels_B
            start = end
    images.flush()
    labels.flush()


def _text(key: bytes | int) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)


def _natural(key: bytes | int) -> list:
    """Sorts train_9 before train_10."""
    return [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", _text(key))]
