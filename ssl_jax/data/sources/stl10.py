"""STL-10 (Coates, Lee & Ng 2011): its binary files, else TensorFlow Datasets.

Only the binary files carry the ten predefined labeled sets of 1,000. Both ways give the
same images in the same order: 5,000 training images, then 100,000 without labels.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ssl_jax.data import cache
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.sources import tfds_source, tfds_split
from ssl_jax.data.sources.tfds_prepare import data_root
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError

URL = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
_SHAPE = (3, 96, 96)  # channel, column, row: as the files have it
_IMAGE_BYTES = 3 * 96 * 96
_BLOCK = 1024  # images in memory at a time
_FILES = (
    *("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"),
    *("unlabeled_X.bin", "class_names.txt", "fold_indices.txt"),
)


def serves(name: str) -> bool:
    return name.partition(":")[0] == "stl10"


def load(wanted: Wanted) -> Dataset:
    """STL-10, with its folds where it is read from the binary files.

    Of `wanted`:
      dir: holds the binary files, themselves or in `stl10_binary/` or below tfds'
        `downloads/extracted/`; else tfds' copy, which is prepared if need be.
      fold: >= 0 demands the binary files.
      image_size: side in pixels to resize to; 0: 96, as they are.

    Raises:
      UserError: files are missing, of a wrong size, or hold labels or folds that are
        out of range.
    """
    root, fold, image_size = data_root(wanted.dir), wanted.fold, wanted.image_size
    places = [root, root / "stl10_binary"]
    places += sorted(root.glob("downloads/extracted/*/stl10_binary"))
    folder = next((p for p in places if (p / "train_X.bin").exists()), None)
    if folder is None:
        if fold < 0:
            return tfds_source.load(wanted)
        raise UserError(
            f"data.fold={fold} needs STL-10's binary files, and there is no "
            f"train_X.bin in {root} or {root / 'stl10_binary'}: unpack {URL} there, or "
            "use data.fold=-1."
        )
    missing = [file for file in _FILES if not (folder / file).exists()]
    if missing:
        raise UserError(f"{folder} lacks {', '.join(missing)}: unpack {URL} there.")
    fingerprint = cache.fingerprint([folder / file for file in _FILES])
    return cache.cached(
        f"stl10-binary-{image_size or 'as-is'}-{fingerprint}",
        lambda out: _convert(folder, image_size, out),
    )


def _convert(folder: Path, image_size: int, out: Path) -> dict:
    """Writes the binary files' content into `out` (see `cache.cached`)."""
    class_names = (folder / "class_names.txt").read_text().split()
    train_labels_N = _labels(folder / "train_y.bin", len(class_names))
    test_labels_M = _labels(folder / "test_y.bin", len(class_names))
    train = _images(folder / "train_X.bin", len(train_labels_N))
    test = _images(folder / "test_X.bin", len(test_labels_M))
    unlabeled = _images(folder / "unlabeled_X.bin", None)
    folds = _folds(folder / "fold_indices.txt", len(train))
    labels = {
        "labels_N": np.pad(
            train_labels_N, (0, len(unlabeled)), constant_values=-1
        ),  # the pool: training images, then unlabeled ones
        "test_labels_M": test_labels_M,
    }
    for name, values in labels.items():
        cache.create(out, name, values.shape, np.int32)[:] = values
    side = image_size or 96
    for name, parts in (
        ("images_NHWC", (train, unlabeled)),
        ("test_images_MHWC", (test,)),
    ):
        shape = (sum(map(len, parts)), side, side, 3)
        images = cache.create(out, name, shape, np.uint8)
        start = 0
        for part in parts:
            for i in range(0, len(part), _BLOCK):
                block_BHWC = part[i : i + _BLOCK].transpose(0, 3, 2, 1)
                if image_size:
                    block_BHWC = [_resized(image, side) for image in block_BHWC]
                images[start : start + len(block_BHWC)] = block_BHWC
                start += len(block_BHWC)
        images.flush()
    return {"name": "stl10", "class_names": class_names, "folds": folds}


def _images(path: Path, num_images: int | None) -> np.ndarray:
    """Memory-mapped images_NCWH; `num_images` as the labels have it, None: any."""
    size = path.stat().st_size
    if num_images is None:
        num_images = max(1, round(size / _IMAGE_BYTES))
    if size != num_images * _IMAGE_BYTES:
        raise UserError(
            f"{path} has {size:,} bytes, and {num_images:,} images of 96x96x3 have "
            f"{num_images * _IMAGE_BYTES:,}: unpack or download {URL} again."
        )
    return np.memmap(path, np.uint8, "r").reshape(-1, *_SHAPE)


def _labels(path: Path, num_classes: int) -> np.ndarray:
    """labels_N, from 0; the file has them from 1."""
    labels_N = np.fromfile(path, np.uint8).astype(np.int32) - 1
    (bad,) = np.nonzero((labels_N < 0) | (labels_N >= num_classes))
    if bad.size:
        raise UserError(
            f"label outside the classes: {path} row {bad[0]} has label "
            f"{labels_N[bad[0]] + 1}, and the {num_classes} classes of class_names.txt "
            f"are 1 to {num_classes}: unpack or download {URL} again."
        )
    return labels_N


def _folds(path: Path, num_train: int) -> list[list[int]]:
    folds = [sorted(map(int, line.split())) for line in path.read_text().splitlines()]
    for number, fold in enumerate(folds):
        for index in fold:
            if not 0 <= index < num_train:
                raise UserError(
                    f"{path} line {number + 1} has index {index}, and the training "
                    f"images are 0 to {num_train - 1}: unpack or download {URL} again."
                )
    return folds


def _resized(image_HWC: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(tfds_split.fit(Image.fromarray(image_HWC), side))
