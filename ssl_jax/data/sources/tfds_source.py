"""Image classification data sets of TensorFlow Datasets, read without TensorFlow.

A copy in array_record form is read through tfds' data source, which needs no
TensorFlow; only preparing a copy that is not there imports it.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ssl_jax.data import cache, progress
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.sources.tfds_prepare import (
    check_features,
    data_root,
    find_prepared,
    prepare,
)
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError

_MODES = {1: "L", 3: "RGB", 4: "RGB"}  # Pillow's, by channels; alpha is dropped
_BLOCK = 1024  # images in memory at a time
_PIECE = 64  # images that a thread takes at a time
# Their builders number the rows from 0, and tfds stores rows sorted by a hash of the
# split's name and that number: so the original order can be restored.
_NUMBERED = ("mnist", "stl10")


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

    Raises:
      UserError: no such data set or folder, it cannot be prepared, or its features,
        labels or image shapes are not those of image classification.
    """
    name, image_size, extra = wanted.name, wanted.image_size, wanted.extra
    root = data_root(wanted.dir)
    folder = find_prepared(root, name) or prepare(root, name)
    parts = folder.relative_to(root).parts
    fingerprint = cache.fingerprint(folder.iterdir())
    size = f"{image_size or 'as-is'}{'+extra' * extra}"
    return cache.cached(
        "-".join([*parts, size, fingerprint]),
        lambda out: _decode(name, folder, image_size, extra, out),
    )


def _decode(name: str, folder: Path, image_size: int, extra: bool, out: Path) -> dict:
    """Decodes a prepared copy into `out` (see `cache.cached`)."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    check_features(name, builder.info.features)
    names = builder.info.splits
    test = "test" if "test" in names else "validation"
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
    pool = [_Split(builder, split, image_size) for split in wanted if split in names]
    shape = pool[0].first_shape()
    _write(out, "", "N", pool, shape)
    _write(out, "test_", "M", [_Split(builder, test, image_size)], shape)
    return {"name": name, "class_names": builder.info.features["label"].names}


class _Split:
    """Images and labels of one split of a prepared copy, in the order of their ids."""

    def __init__(self, builder, name: str, image_size: int):
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
        self.order = np.arange(len(self.source))
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
        valid = range(self.num_classes)
        if self.name == "unlabelled":
            valid = range(-1, 0)
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
                for row, image, label in zip(rows, images, labels_B, strict=True):
                    where = f"{self.name} row {_text(row.get('id', position))}"
                    if image.shape != shape:
                        raise UserError(
                            f"image shape unlike the first: {where} is {image.shape}, "
                            f"the first is {shape}; set config.data.image_size to "
                            "bring all to one size."
                        )
                    if label not in valid:
                        raise UserError(
                            f"label outside the classes: {where} has label {label}, "
                            f"and the {self.num_classes} classes are 0 to "
                            f"{self.num_classes - 1}; mend that row and prepare the "
                            "data set again."
                        )
                    position += 1
                yield np.stack(images), labels_B

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
