"""Which images of the training pool are labeled, unlabeled or held out to validate."""

from typing import NamedTuple

import numpy as np

from ssl_jax.core import UserError
from ssl_jax.data.cache import Dataset


class Split(NamedTuple):
    """Sorted int32 indices into the training pool."""

    labeled: np.ndarray
    unlabeled: np.ndarray
    validation: np.ndarray


def split(
    dataset: Dataset,
    *,
    num_labels: int,
    num_validation: int = 0,
    labeled_in_unlabeled: bool = True,
    fold: int = -1,
    protocol: str = "balanced",
    seed: int,
) -> Split:
    """Splits the training pool; the test set plays no part.

    Each class is shuffled once by `seed`: its first images are labeled and its last
    validate. So the labels do not change with num_validation, and fewer labels are a
    subset of more.

    Args:
      num_labels: labeled images in all, the same number of each class; 0: every image
        that has a label and does not validate.
      num_validation: images to validate on in all, the same number of each class; they
        leave the unlabeled set.
      labeled_in_unlabeled: whether the unlabeled set has the labeled images as well.
      fold: the predefined labeled set to use (STL-10: 0 to 9); -1: draw by `seed`.
      protocol: "balanced", or "two_phase": the index lists of the two-phase tutorial
        on CIFAR-10, 5,000 labeled and another 20,000 unlabeled, whatever the seed and
        `labeled_in_unlabeled`; validation images come from the 25,000 that it leaves.

    Raises:
      UserError: the numbers do not fit the classes, the fold or the pool.
    """
    num_classes = len(dataset.class_names)
    _check_divisible("num_labels", num_labels, num_classes)
    _check_divisible("num_validation", num_validation, num_classes)
    pool = np.arange(len(dataset.labels_N), dtype=np.int32)
    fixed = unlabeled = None
    if protocol == "two_phase":
        fixed, unlabeled, drawable = _two_phase(dataset, num_labels, fold)
    elif protocol != "balanced":
        raise UserError(f"protocol={protocol!r}: use 'balanced' or 'two_phase'.")
    elif fold >= 0:
        fixed = _fold(dataset, num_labels, fold)
        drawable = np.setdiff1d(pool, fixed)
    else:
        drawable = pool
    rng = np.random.default_rng(seed)
    labeled, validation = [], []
    for c, class_name in enumerate(dataset.class_names):
        of_class = rng.permutation(drawable[dataset.labels_N[drawable] == c])
        first = 0 if fixed is not None else num_labels // num_classes
        last = num_validation // num_classes
        if first + last > len(of_class):
            raise UserError(
                f"class {class_name!r} has {len(of_class):,} images to draw from, but "
                f"num_labels={num_labels} and num_validation={num_validation} ask for "
                f"{first + last:,} of each class: ask for fewer."
            )
        end = len(of_class) - last
        labeled.append(of_class[: first or end])
        validation.append(of_class[end:])
    labeled = np.sort(np.concatenate(labeled) if fixed is None else fixed)
    validation = np.sort(np.concatenate(validation))
    if unlabeled is None:
        unlabeled = np.setdiff1d(pool, validation)
        if not labeled_in_unlabeled:
            unlabeled = np.setdiff1d(unlabeled, labeled)
    return Split(labeled, unlabeled, validation)


def _check_divisible(what: str, number: int, num_classes: int) -> None:
    if number < 0:
        raise UserError(f"{what}={number} is negative: use 0 or more.")
    if number % num_classes:
        below = number // num_classes * num_classes
        valid = f"{below + num_classes}"
        if below:  # 0 is valid, but means another thing than "a few"
            valid = f"{below} or {valid}"
        raise UserError(
            f"{what}={number} is not divisible by the {num_classes} classes: "
            f"use {valid}."
        )


def _fold(dataset: Dataset, num_labels: int, fold: int) -> np.ndarray:
    """The predefined labeled set."""
    if fold >= len(dataset.folds):
        raise UserError(
            f"fold={fold}: {dataset.name} has {len(dataset.folds)} predefined folds; "
            "use fold=-1 to draw labels by seed, or a fold that there is."
        )
    labeled = dataset.folds[fold]
    if num_labels not in (0, len(labeled)):
        raise UserError(
            f"num_labels={num_labels}, but fold {fold} of {dataset.name} has "
            f"{len(labeled):,} labels: use that number, or 0."
        )
    return labeled


def _two_phase(
    dataset: Dataset, num_labels: int, fold: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labeled, unlabeled, the rest): the tutorial's lists, for rows sorted by id."""
    if len(dataset.labels_N) != 50_000:
        raise UserError(
            "protocol='two_phase' is made of CIFAR-10's 50,000 training images, and "
            f"{dataset.name} has {len(dataset.labels_N):,}: use protocol='balanced'."
        )
    if num_labels not in (0, 5_000) or fold >= 0:
        raise UserError(
            f"num_labels={num_labels}, fold={fold}: protocol='two_phase' labels 5,000 "
            "images of its own; use num_labels=5000 (or 0) and fold=-1."
        )
    shuffled = np.arange(50_000, dtype=np.int32)
    np.random.default_rng(0).shuffle(shuffled)
    labeled, unlabeled, rest = np.split(shuffled, [5_000, 25_000])
    return labeled, np.sort(unlabeled), rest
