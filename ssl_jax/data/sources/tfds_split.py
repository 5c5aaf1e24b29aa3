"""One split of a prepared data set of TensorFlow Datasets, read record by record."""

import hashlib
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps

from ssl_jax.data import progress
from ssl_jax.errors import UserError

_MODES = {1: "L", 3: "RGB", 4: "RGB"}  # Pillow's, by channels; alpha is dropped
_BLOCK = 1024  # images in memory at a time
_PIECE = 64  # images that a thread takes at a time
# Their builders number the rows from 0, and tfds stores rows sorted by a hash of the
# split's name and that number: so the original order can be restored.
_NUMBERED = ("mnist", "stl10")


class Split:
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
        self.class_names = tuple(features["label"].names)
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
            ids = [row["id"] for rows in self.blocks() for row in rows]
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
        return self._image(next(self.blocks())[0]).shape

    def decoded(
        self, shape: tuple[int, ...]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of (images_BHWC, labels_B).

        Raises:
          UserError: an image is not of `shape`, or a label is outside the classes.
        """
        position = 0
        with ThreadPoolExecutor() as threads:  # Pillow decodes outside the GIL
            for rows in self.blocks():
                numbers = self.order[position : position + len(rows)].tolist()
                pairs = list(zip(numbers, rows, strict=True))
                pieces = [pairs[i : i + _PIECE] for i in range(0, len(rows), _PIECE)]
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
        blocks = progress.shown(self.blocks(), len(self), what, size=len)
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
            image_HWC = self._decoded(number, row)
            if image_HWC.shape != shape:
                raise UserError(
                    f"{self.folder}: the image in record {number} of the split "
                    f"{self.name!r} is {image_HWC.shape}, where all were to be "
                    f"{shape}; set config.data.image_size to bring all to one size."
                )
            yield image_HWC

    def _decoded(self, number: int, row: dict) -> np.ndarray:
        try:
            return self._image(row)
        except Exception as error:  # damaged ones make Pillow raise nearly anything
            raise self._unreadable(number, error) from error

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

    @property
    def labels_there_are(self) -> range:
        unlabelled = self.name == "unlabelled"
        return range(-1, 0) if unlabelled else range(self.num_classes)

    def _check_label(self, row: dict, position: int) -> None:
        if row["label"] not in self.labels_there_are:
            raise UserError(
                f"label outside the classes: {self._at(row, position)} has label "
                f"{row['label']}, and the {self.num_classes} classes are 0 to "
                f"{self.num_classes - 1}; mend that row and prepare the data set again."
            )

    def blocks(self) -> Iterator[list[dict]]:
        """All rows, images undecoded, in order.

        Raises:
          UserError: the file that they are in is damaged.
        """
        for start in range(0, len(self.order), _BLOCK):
            block = self.order[start : start + _BLOCK]
            try:
                yield self.source.__getitems__([int(i) for i in block])
            except RuntimeError as error:  # array_record's, for a damaged file
                raise UserError(
                    f"{self.folder}: the split {self.name!r} cannot be read ({error}); "
                    "copy or prepare that folder again."
                ) from error

    def _images(self, pairs: list[tuple[int, dict]]) -> list[np.ndarray]:
        return [self._decoded(number, row) for number, row in pairs]

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


def _text(key: bytes | int) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)


def _natural(key: bytes | int) -> list:
    """Sorts train_9 before train_10."""
    return [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", _text(key))]
