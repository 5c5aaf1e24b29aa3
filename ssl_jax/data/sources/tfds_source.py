"""Image classification data sets of TensorFlow Datasets, read without TensorFlow.

A copy in array_record form is read through tfds' data source, which needs no
TensorFlow; only preparing a copy that is not there imports it. Where images stay in
their records (`placement.streams`), labels and order are read once and kept.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ssl_jax.data import cache, progress
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.placement import streams
from ssl_jax.data.sources import tfds_survey
from ssl_jax.data.sources.decoding import suggested
from ssl_jax.data.sources.tfds_prepare import (
    check_features,
    data_root,
    find_prepared,
    prepare,
)
from ssl_jax.data.sources.tfds_split import Split
from ssl_jax.data.streams import Images
from ssl_jax.data.survey import Survey
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError

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


def survey(wanted: Wanted) -> Survey:
    """What `load` gives, with the form of every record; where that refuses, the images
    that can be decoded and have a label that there is, as a stream.

    Raises:
      UserError: as `load`, for what is not in single records.
    """
    root, dataset, mistakes = data_root(wanted.dir), None, []
    try:
        dataset = load(wanted)
    except UserError as error:
        mistakes.append(str(error))
    folder = find_prepared(root, wanted.name)
    if folder is None:  # nor could it be prepared
        raise UserError(*mistakes)
    builder = builder_of(wanted.name, folder)
    names = split_names(wanted.name, builder, wanted.extra)
    splits = [Split(builder, name, wanted.image_size) for name in names]
    # A stream's images are not decoded yet.
    decode = dataset is None or isinstance(dataset.images_NHWC, Images)
    looked = [tfds_survey.look(split, decode) for split in splits]
    files = [file for of_split in looked for file in of_split.files]
    bad = [image for of_split in looked for image in of_split.unreadable]
    if files and (bad or dataset is None):
        height, width = files[0].height, files[0].width
        if wanted.image_size or len({(f.height, f.width) for f in files}) > 1:
            height = width = wanted.image_size or suggested(files)
        size = 0 if height != width else height
        shape = height, width, 1 if splits[0].mode == "L" else 3
        good = [
            Split(builder, name, size, of_split.order)
            for name, of_split in zip(names, looked, strict=True)
        ]
        labels = [of_split.labels_N for of_split in looked]
        dataset = streamed(wanted, good, labels, shape)
    return Survey(
        dataset=dataset,
        files=tuple(files),
        unreadable=tuple(bad),
        mistakes=tuple(mistakes),
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
    builder = builder_of(name, folder)
    *pool, test = split_names(name, builder, extra)
    pool = [Split(builder, split, image_size) for split in pool]
    shape = pool[0].first_shape()
    _write(out, "", "N", pool, shape)
    _write(out, "test_", "M", [Split(builder, test, image_size)], shape)
    return {"name": name, "class_names": builder.info.features["label"].names}


def _streamed(wanted: Wanted, folder: Path, key: str) -> Dataset:
    """A prepared copy whose images stay in it; `key` is of the cache, which has the
    order of its rows, and their labels."""
    name, image_size = wanted.name, wanted.image_size
    builder = builder_of(name, folder)
    shape = _one_shape(name, builder.info.features["image"], image_size)
    names = split_names(name, builder, wanted.extra)

    def build(out):
        for split in (Split(builder, split, image_size) for split in names):
            np.save(out / f"{split.name}_order.npy", split.order)
            np.save(out / f"{split.name}_labels.npy", split.labels())
        return {}

    kept, _ = cache.entry(key, build)
    splits = [
        Split(builder, split, image_size, np.load(kept / f"{split}_order.npy"))
        for split in names
    ]
    labels = [np.load(kept / f"{split}_labels.npy") for split in names]
    return streamed(wanted, splits, labels, shape)


def streamed(
    wanted: Wanted,
    splits: Sequence["Split"],
    labels: Sequence[np.ndarray],
    shape: tuple[int, int, int],
) -> Dataset:
    """Images of `shape` that stay in their records: those of the last of `splits` are
    the test set; `labels` of each."""
    arrays, name = {}, wanted.name
    for prefix, letter, part in (("", "N", slice(-1)), ("test_", "M", slice(-1, None))):
        those = splits[part]
        images = _reader(those, shape), (sum(map(len, those)), *shape)
        arrays[f"{prefix}images_{letter}HWC"] = Images(*images, name, wanted.workers)
        arrays[f"{prefix}labels_{letter}"] = np.concatenate(labels[part])
    return Dataset(name=name, class_names=splits[0].class_names, **arrays)


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
    splits: list["Split"], shape: tuple[int, int, int]
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


def builder_of(name: str, folder: Path):
    """tfds' builder of a prepared copy, without TensorFlow."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    check_features(name, builder.info.features)
    return builder


def split_names(name: str, builder, extra: bool) -> list[str]:
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


def _write(out: Path, prefix: str, letter: str, splits: list[Split], shape) -> None:
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
