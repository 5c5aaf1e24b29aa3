"""Images and labels that a user hands over, as a pool to learn from."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssl_jax.data import given_images
from ssl_jax.data.dataset import Dataset
from ssl_jax.data.sources import image_files
from ssl_jax.data.sources.image_files import Unreadable
from ssl_jax.data.sources.one_image import Reading
from ssl_jax.errors import UserError


def folder(images: Any) -> str:
    """The folder that `images` names; "" where it is something else."""
    if not isinstance(images, (str, bytes, os.PathLike)):
        return ""
    path = os.path.expanduser(os.fsdecode(images))
    return path if os.path.isdir(path) else ""


def dataset(
    images: Any,
    labels: Any,
    unlabeled: Any,
    side: int,
    reading: Reading,
    *,
    classless: bool = False,
) -> Dataset:
    """A pool of the images, and behind them of those that have no label.

    Args:
      images, unlabeled: arrays, or names of files; None: no unlabeled ones. An array of
        images keeps its size.
      labels: of each of `images`, a number or a name; -1, None or NaN for none.
      side: pixels that files are brought to; 0: they must be of one size.
      reading: how files are read.
      classless: whether there may be no label at all.

    Raises:
      UserError: they are no images, or do not fit each other.
    """
    listed = _listed(images, "images")
    more = [] if unlabeled is None else _listed(unlabeled, "unlabeled")
    class_names, codes_N = _classes(labels, len(listed))
    labels_N = np.concatenate([codes_N, np.full(len(more), -1)]).astype(np.int32)
    names = ()
    if all(isinstance(image, str) for image in (*listed, *more)):
        names = tuple(os.path.abspath(name) for name in (*listed, *more))
        images_NHWC = _decoded(names, side, reading)
    else:
        parts = [_stacked(listed), *([_stacked(more)] if len(more) else [])]
        if len({part.shape[1:] for part in parts}) > 1:
            shapes = " and ".join(str(part.shape[1:]) for part in parts)
            raise UserError(
                f"images and unlabeled have the shapes {shapes}: bring all to one."
            )
        images_NHWC = np.concatenate(parts) if len(parts) > 1 else parts[0]
    if len(class_names) < 2 and (class_names or not classless):
        raise UserError(
            f"labels name {len(class_names)} classes: label images of two or more."
        )
    if len(set(names)) < len(names):
        again = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{again} is given twice: give each file once.")
    none = np.zeros((0, *images_NHWC.shape[1:]), np.uint8)
    return Dataset(
        name="images in memory" if not names else "files",
        images_NHWC=images_NHWC,
        labels_N=labels_N,
        test_images_MHWC=none,
        test_labels_M=np.zeros(0, np.int32),
        class_names=class_names,
        names_N=names,
    )


def _listed(images, what):
    """`given_images.listed` of several images: one alone is no pool."""
    if isinstance(images, (str, bytes, os.PathLike)):
        raise UserError(
            f"{what}={os.fsdecode(images)!r} is no folder: give one, or a list of "
            "names of files."
        )
    shape = getattr(images, "shape", ())
    if len(shape) in (2, 3):
        grey = " (of grey ones x[..., None])" if len(shape) == 3 else ""
        raise UserError(
            f"{what} is an array of shape {tuple(shape)}: give one [images, height, "
            f"width, channels]{grey}, or a list of images."
        )
    return given_images.listed(images)


def is_none(label: Any) -> bool:
    """Whether it stands for an image without one."""
    return label is None or bool(label == -1) or bool(label != label)  # NaN


def _classes(labels, num_images) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes' names, in the order of the labels, and each image's row in them."""
    labels = [None] * num_images if labels is None else list(labels)
    if len(labels) != num_images:
        raise UserError(
            f"{len(labels):,} labels for {num_images:,} images: give one for each, -1 "
            "or None where there is none."
        )
    known = {label for label in labels if not is_none(label)}
    try:
        ordered = sorted(known)
    except TypeError as error:
        raise UserError(
            f"labels are of several kinds ({error}): give numbers or names, not both."
        ) from error
    names = tuple(str(label) for label in ordered)
    if wrong := {"", "-1", "nan"}.intersection(names):
        raise UserError(
            f"{wrong.pop()!r} is no class: give None where there is no label (NumPy "
            "makes a name of -1 or NaN that stands beside names)."
        )
    if len(set(names)) < len(names):
        raise UserError(f"two labels are called alike among {', '.join(names)}.")
    row = {label: i for i, label in enumerate(ordered)}
    return names, np.array([-1 if is_none(label) else row[label] for label in labels])


def _stacked(listed: Sequence[Any]) -> np.ndarray:
    """images_NHWC uint8, of 1 or 3 channels."""
    if not isinstance(listed, np.ndarray):
        try:
            array = np.stack([np.asarray(image) for image in listed])
        except ValueError as error:
            raise UserError(
                f"the images cannot be stacked ({error}): bring all to one size, or "
                "give the names of their files."
            ) from error
        listed = given_images.listed(array[..., None] if array.ndim == 3 else array)
    if not isinstance(listed, np.ndarray) or listed.shape[-1] not in (1, 3):
        raise UserError(
            "images must be one array [images, height, width, channels] of 1 or 3 "
            "channels, or a list of such images, or names of files."
        )
    return listed


def _decoded(names, side, reading) -> np.ndarray:
    headers = list(image_files.headers("", names, False, reading))
    _check_readable(names, headers)
    channels = 1 if all(header.grey for header in headers) else 3
    sizes = {(header.height, header.width) for header in headers}
    if not side and len(sizes) > 1:
        raise UserError(
            f"the images have {len(sizes):,} sizes: bring them to one by "
            "settings={'data.image_size': 32}, say."
        )
    shape = (*((side, side) if side else next(iter(sizes))), channels)
    blocks = image_files.decoded("", names, shape, reading)
    images_NHWC = np.empty((len(names), *shape), np.uint8)
    begin = 0
    for good, images_BHWC, bad in blocks:
        _check_readable([image.name for image in bad], bad)
        images_NHWC[begin : begin + len(good)] = images_BHWC
        begin += len(good)
    return images_NHWC


def _check_readable(names, found) -> None:
    bad = [
        f"  {name}: {image.reason}"
        for name, image in zip(names, found, strict=True)
        if isinstance(image, Unreadable)
    ]
    if bad:
        more = f"\n  and {len(bad) - 20:,} more" if len(bad) > 20 else ""
        raise UserError(
            f"{len(bad):,} images cannot be read; leave them out:\n"
            + "\n".join(bad[:20])
            + more
        )
