"""Images, labels and their names."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ssl_jax.data.streams import Images
from ssl_jax.errors import UserError
from ssl_jax.workdir.inventory import Inventory


class Dataset(NamedTuple):
    """One image classification data set: a training pool of N images and M to test.

    Sources make them (`sources.load`), or `of_arrays` of what is in memory. One made
    by hand holds to the types below, and is taken as it is: nothing checks it.
    """

    name: str  # for messages
    # uint8: the pool; as a source has them, or labeled first. What stays in files is
    # a `streams.Images`, here and below.
    images_NHWC: np.ndarray | Images
    labels_N: np.ndarray  # int32, 0 to K - 1; -1 where there is no label
    test_images_MHWC: np.ndarray | Images  # uint8; M may be 0
    test_labels_M: np.ndarray  # int32, 0 to K - 1
    class_names: tuple[str, ...]  # K of them
    folds: tuple[np.ndarray, ...] = ()  # predefined labeled sets as pool indices, or ()
    names_N: tuple[str, ...] = ()  # paths of the pool's images; (): rows have no names
    # Names of images that are not in the pool because they cannot be decoded.
    unreadable: frozenset[str] = frozenset()
    # Pixels of the smallest and of the largest side of all images as they were found,
    # before they were brought to one size; None where the source does not know.
    sizes: tuple[int, int] | None = None
    root: str = ""  # the absolute folder that names_N are relative to; "": none
    num_held_out: int = 0  # the last rows of the pool are there to validate on alone


def of_arrays(
    images_NHWC: np.ndarray,
    labels_N: np.ndarray,
    *,
    class_names: Sequence[str] | None = None,
    test_images_MHWC: np.ndarray | None = None,
    test_labels_M: np.ndarray | None = None,
    names_N: Sequence[str] = (),
    name: str = "arrays",
) -> Dataset:
    """A data set of arrays in memory, which are not copied.

        data = of_arrays(images_NHWC, np.where(known_N, labels_N, -1))

    Args:
      images_NHWC: uint8, grey levels 0 to 255: the training pool; C is 1 or 3.
      labels_N: integers 0 to K - 1; -1 where there is no label.
      class_names: K of them; None: "0" to the largest label.
      test_images_MHWC, test_labels_M: the test set, all with a label; None: none.
      names_N: what a CSV file of labels calls the images, each once; (): their rows.
      name: of the data set, for messages.

    Raises:
      UserError: an array has another shape or type, a label is no class, there are
        fewer than two classes, or names do not match.
    """
    images_NHWC, labels_N = np.asarray(images_NHWC), np.asarray(labels_N)
    _check_images("images_NHWC", images_NHWC)
    if not len(images_NHWC):
        raise UserError(f"images_NHWC of {name} has 0 images: give some.")
    if class_names is None:
        _check_labels("labels_N", labels_N, len(images_NHWC))
        class_names = [str(c) for c in range(labels_N.max() + 1)]
    K = len(class_names)
    _check_labels("labels_N", labels_N, len(images_NHWC), range(-1, K))
    if K < 2 or len(set(class_names)) < K:
        raise UserError(
            f"{name} has the {K} classes {', '.join(class_names)}: name two or more, "
            "each once."
        )
    if names_N and not len(images_NHWC) == len(names_N) == len(set(names_N)):
        raise UserError(
            f"names_N has {len(names_N):,} names, {len(set(names_N)):,} of them "
            f"different, for {len(images_NHWC):,} images: give each its own, or none."
        )
    if (test_images_MHWC is None) != (test_labels_M is None):
        raise UserError(
            "a test set has images and labels: give both test_images_MHWC and "
            "test_labels_M, or neither."
        )
    if test_images_MHWC is None:
        test_images_MHWC, test_labels_M = images_NHWC[:0], labels_N[:0]
    test_images_MHWC = np.asarray(test_images_MHWC)
    test_labels_M = np.asarray(test_labels_M)
    _check_images("test_images_MHWC", test_images_MHWC)
    _check_labels("test_labels_M", test_labels_M, len(test_images_MHWC), range(K))
    if images_NHWC.shape[1:] != test_images_MHWC.shape[1:]:
        raise UserError(
            f"images to test have the shape {test_images_MHWC.shape[1:]}, those to "
            f"train on {images_NHWC.shape[1:]}: bring all to one."
        )
    return Dataset(
        name=name,
        images_NHWC=images_NHWC,
        labels_N=labels_N.astype(np.int32),
        test_images_MHWC=test_images_MHWC,
        test_labels_M=test_labels_M.astype(np.int32),
        class_names=tuple(class_names),
        names_N=tuple(names_N),
    )


def _check_images(what: str, images_NHWC: np.ndarray) -> None:
    if images_NHWC.ndim != 4 or images_NHWC.shape[-1] not in (1, 3):
        remedy = "stack them, all of one size."
        if images_NHWC.ndim == 3:
            remedy = f"grey images are {what}[..., None]."
        raise UserError(
            f"{what} has the shape {images_NHWC.shape}: it must be [images, height, "
            f"width, channels], of 1 or 3 channels; {remedy}"
        )
    if images_NHWC.dtype != np.uint8:
        raise UserError(
            f"{what} is {images_NHWC.dtype}: it must be uint8, grey levels 0 to 255; "
            "of values in [0, 1] make np.round(255 * images).astype(np.uint8)."
        )


def _check_labels(
    what: str, labels_N: np.ndarray, num_images: int, valid: range | None = None
) -> None:
    if labels_N.shape != (num_images,):
        raise UserError(
            f"{what} has the shape {labels_N.shape} for {num_images:,} images: it must "
            f"be ({num_images},), one label for each; of one-hot rows take the argmax."
        )
    if labels_N.dtype.kind not in "iu":
        raise UserError(
            f"{what} is {labels_N.dtype}: it must be integers; of other labels make "
            "them by np.unique(labels, return_inverse=True)."
        )
    if valid is None:
        return
    (bad,) = np.nonzero((labels_N < valid.start) | (labels_N >= valid.stop))
    if bad.size:
        none = ", or -1 for none" if valid.start < 0 else ""
        raise UserError(
            f"label outside the classes: {what} row {bad[0]} is {labels_N[bad[0]]}, "
            f"and the {valid.stop} classes are 0 to {valid.stop - 1}{none}; mend that "
            "row, or name more classes."
        )


def without_test(dataset: Dataset) -> Dataset:
    """The data set with nothing to test on: of whoever must not choose by that."""
    return dataset._replace(
        test_images_MHWC=np.zeros((0, *dataset.images_NHWC.shape[1:]), np.uint8),
        test_labels_M=np.zeros(0, np.int32),
    )


def inventory(
    dataset: Dataset,
    *,
    labeled: Iterable[int] = (),
    validation: Iterable[int] = (),
    pixels: bool = False,
) -> Inventory:
    """What a run remembers of its data.

    Args:
      labeled, validation: rows of the pool (`splits.Split`), remembered by their names.
      pixels: as in `digest`.
    """
    names = ("", *dataset.class_names)  # -1 is no label
    labels = [names[label + 1] for label in dataset.labels_N.tolist()]
    return Inventory(
        name=dataset.name,
        digest=digest(dataset, pixels=pixels),
        class_names=dataset.class_names,
        shape=dataset.images_NHWC.shape[1:],
        labels=dict(zip(dataset.names_N, labels, strict=False)),
        num_test=len(dataset.test_labels_M),
        labeled=_named(dataset, labeled),
        validation=_named(dataset, validation),
    )


def _named(dataset: Dataset, index_N: Iterable[int]) -> tuple[str, ...]:
    return tuple(dataset.names_N[i] for i in index_N) if dataset.names_N else ()


def digest(dataset: Dataset, *, pixels: bool = False) -> str:
    """32 hexadecimal digits of what the rows are: the classes, the names, the labels,
    and the images' shape; their pixels only if `pixels`. By it a run that goes on knows
    its data again."""
    hashed = hashlib.blake2b(digest_size=16)
    for names in (dataset.class_names, dataset.names_N):
        hashed.update(os.fsencode("\0".join(names)) + b"\1")
    for labels in (dataset.labels_N, dataset.test_labels_M):
        hashed.update(np.ascontiguousarray(labels, np.int32).tobytes())
    hashed.update(str(dataset.images_NHWC.shape).encode())
    if pixels:
        for images in (dataset.images_NHWC, dataset.test_images_MHWC):
            hashed.update(np.ascontiguousarray(images))
    return hashed.hexdigest()
