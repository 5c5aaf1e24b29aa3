"""Which images of the training pool are labeled, unlabeled or held out to validate."""

from typing import NamedTuple

import numpy as np

from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError


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
    num_unlabeled: int = 0,
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
      num_unlabeled: images in the unlabeled set, drawn by `seed`; 0: all.
      protocol: "balanced"; "first": the first num_labels images of the pool are
        labeled, whatever their classes, and the first num_unlabeled unlabeled, as
        tutorials slice their arrays; or "two_phase": the index lists of the two-phase
        tutorial on CIFAR-10, 5,000 labeled and another 20,000 unlabeled, whatever the
        seed and `labeled_in_unlabeled`. For these two, validation images come from
        what they leave. Or "planetoid": a citation network's own labeled and
        validation nodes.

    Raises:
      UserError: the numbers do not fit the classes, the fold or the pool.
    """
    if protocol == "planetoid":
        return _planetoid(dataset, num_labels, num_validation)
    num_classes = len(dataset.class_names)
    if num_unlabeled < 0:
        raise UserError(f"num_unlabeled={num_unlabeled} is negative: use 0 or more.")
    if protocol != "first":
        _check_divisible("num_labels", num_labels, num_classes)
    _check_divisible("num_validation", num_validation, num_classes)
    pool = np.arange(len(dataset.labels_N), dtype=np.int32)
    fixed = unlabeled = None
    if protocol == "two_phase":
        fixed, unlabeled, drawable = _two_phase(
            dataset, num_labels, num_unlabeled, fold
        )
    elif protocol == "first":
        fixed, unlabeled, drawable = _first(dataset, num_labels, num_unlabeled, fold)
    elif protocol != "balanced":
        raise UserError(
            f"protocol={protocol!r}: use 'balanced', 'first', 'two_phase' or "
            "'planetoid'."
        )
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
        if num_unlabeled > len(unlabeled):
            raise UserError(
                f"num_unlabeled={num_unlabeled:,}, but there are {len(unlabeled):,} "
                "unlabeled images: ask for fewer, or 0 for all."
            )
        if num_unlabeled:
            unlabeled = np.sort(rng.permutation(unlabeled)[:num_unlabeled])
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


def _first(
    dataset: Dataset, num_labels: int, num_unlabeled: int, fold: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labeled, unlabeled, the rest) in the order of the pool."""
    rows = np.arange(len(dataset.labels_N), dtype=np.int32)
    num_labels, num_unlabeled = (n or len(rows) for n in (num_labels, num_unlabeled))
    if num_labels < 0 or max(num_labels, num_unlabeled) > len(rows) or fold >= 0:
        raise UserError(
            f"num_labels={num_labels}, num_unlabeled={num_unlabeled}, fold={fold}: "
            f"protocol='first' takes both from the {len(rows):,} images of the pool, "
            "and no fold (fold=-1)."
        )
    if (dataset.labels_N[:num_labels] < 0).any():
        raise UserError(
            f"num_labels={num_labels}: not all of the first images of {dataset.name} "
            "have a label; ask for fewer, or use protocol='balanced'."
        )
    rest = rows[max(num_labels, num_unlabeled) :]
    return rows[:num_labels], rows[:num_unlabeled], rest


def _two_phase(
    dataset: Dataset, num_labels: int, num_unlabeled: int, fold: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labeled, unlabeled, the rest): the tutorial's lists, for rows sorted by id."""
    if len(dataset.labels_N) != 50_000:
        raise UserError(
            "protocol='two_phase' is made of CIFAR-10's 50,000 training images, and "
            f"{dataset.name} has {len(dataset.labels_N):,}: use protocol='balanced'."
        )
    lists = num_labels in (0, 5_000) and num_unlabeled in (0, 20_000)
    if not lists or fold >= 0:
        raise UserError(
            f"num_labels={num_labels}, num_unlabeled={num_unlabeled}, fold={fold}: "
            "protocol='two_phase' labels 5,000 images of its own and has another "
            "20,000 unlabeled; use those numbers (or 0) and fold=-1."
        )
    shuffled = np.arange(50_000, dtype=np.int32)
    np.random.default_rng(0).shuffle(shuffled)
    labeled, unlabeled, rest = np.split(shuffled, [5_000, 25_000])
    return labeled, np.sort(unlabeled), rest


def _planetoid(dataset: Dataset, num_labels: int, num_validation: int) -> Split:
    """The citation network's own split (arXiv:1603.08861)."""
    if len(dataset.folds) != 2:
        raise UserError(
            "protocol='planetoid' is the split of a citation network, and "
            f"{dataset.name} is none: use protocol='balanced'."
        )
    labeled, validation = dataset.folds
    if (num_labels, num_validation) != (len(labeled), len(validation)):
        raise UserError(
            f"num_labels={num_labels}, num_validation={num_validation}: the split of "
            f"{dataset.name} has {len(labeled)} labels and {len(validation)} nodes to "
            "validate; use those numbers, or protocol='balanced'."
        )
    rest = np.arange(len(dataset.labels_N), dtype=np.int32)
    return Split(labeled, np.setdiff1d(rest, validation), validation)


def candidates(split: Split) -> np.ndarray:
    """The unlabeled images whose label is not granted: sorted index_N into the pool."""
    return np.setdiff1d(split.unlabeled, split.labeled)
