"""Which images of the training pool are labeled, unlabeled or held out to validate.

A protocol is a function (dataset, asked, seed) -> Split in the table `PROTOCOLS`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError


class Split(NamedTuple):
    """Sorted int32 indices into the training pool."""

    labeled: np.ndarray
    unlabeled: np.ndarray
    validation: np.ndarray


class Asked(NamedTuple):
    """What a protocol is asked for; `split` says what the numbers mean."""

    num_labels: int
    num_validation: int = 0
    num_unlabeled: int = 0
    labeled_in_unlabeled: bool = True
    fold: int = -1


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

    Args:
      num_labels: labeled images in all, the same number of each class; 0: every image
        that has a label and does not validate.
      num_validation: images to validate on in all, the same number of each class; they
        leave the unlabeled set.
      labeled_in_unlabeled: whether the unlabeled set has the labeled images as well.
      fold: the predefined labeled set to use (STL-10: 0 to 9); -1: draw by `seed`.
      num_unlabeled: images in the unlabeled set, drawn by `seed`; 0: all.
      protocol: `balanced`, `first`, `two_phase` or `planetoid`, the functions below.

    Raises:
      UserError: the numbers do not fit the protocol, the classes, the fold or the pool.
    """
    asked = Asked(num_labels, num_validation, num_unlabeled, labeled_in_unlabeled, fold)
    for mistake in mistakes(protocol, asked):
        raise UserError(mistake)
    return PROTOCOLS[protocol](dataset, asked, seed)


def mistakes(protocol: str, asked: Asked) -> Iterator[str]:
    """What is wrong whatever the data set."""
    if protocol not in PROTOCOLS:
        *others, last = map(repr, PROTOCOLS)
        yield f"protocol={protocol!r}: use {', '.join(others)} or {last}."
    if protocol == "two_phase":
        lists = asked.num_labels in (0, 5_000) and asked.num_unlabeled in (0, 20_000)
        if not lists or asked.fold >= 0:
            yield (
                f"num_labels={asked.num_labels}, num_unlabeled={asked.num_unlabeled}, "
                f"fold={asked.fold}: protocol='two_phase' labels 5,000 images of its "
                "own and has another 20,000 unlabeled; use those numbers (or 0) and "
                "fold=-1."
            )
    elif protocol in PROTOCOLS and protocol != "balanced" and asked.fold >= 0:
        yield (
            f"fold={asked.fold}: protocol={protocol!r} takes no predefined fold; use "
            "fold=-1, or protocol='balanced'."
        )


def balanced(dataset: Dataset, asked: Asked, seed: int) -> Split:
    """As many labels of each class, drawn by `seed`; or a predefined fold.

    Each class is shuffled once: its first images are labeled and its last validate. So
    the labels do not change with num_validation, and fewer labels are a subset of more.
    """
    K, rng = len(dataset.class_names), np.random.default_rng(seed)
    _check_divisible("num_labels", asked.num_labels, K)
    _check_divisible("num_validation", asked.num_validation, K)
    pool = np.arange(len(dataset.labels_N), dtype=np.int32)
    if asked.fold >= 0:
        labeled = _fold(dataset, asked)
        rest = np.setdiff1d(pool, labeled)
        _, validation = _of_each_class(dataset, rest, asked, 0, rng)
    else:
        labeled, validation = _of_each_class(
            dataset, pool, asked, asked.num_labels // K, rng
        )
    unlabeled = np.setdiff1d(pool, validation)
    if not asked.labeled_in_unlabeled:
        unlabeled = np.setdiff1d(unlabeled, labeled)
    if asked.num_unlabeled > len(unlabeled):
        raise UserError(
            f"num_unlabeled={asked.num_unlabeled:,}, but there are {len(unlabeled):,} "
            "unlabeled images: ask for fewer, or 0 for all."
        )
    if asked.num_unlabeled:
        unlabeled = np.sort(rng.permutation(unlabeled)[: asked.num_unlabeled])
    return Split(labeled, unlabeled, validation)


def first(dataset: Dataset, asked: Asked, seed: int) -> Split:
    """The first num_labels images of the pool are labeled, whatever their classes, and
    the first num_unlabeled unlabeled, as tutorials slice their arrays; images to
    validate are drawn by `seed` from what these leave."""
    _check_divisible("num_validation", asked.num_validation, len(dataset.class_names))
    pool = np.arange(len(dataset.labels_N), dtype=np.int32)
    num_labels = asked.num_labels or len(pool)
    num_unlabeled = asked.num_unlabeled or len(pool)
    if max(num_labels, num_unlabeled) > len(pool):
        raise UserError(
            f"num_labels={num_labels}, num_unlabeled={num_unlabeled}, "
            f"fold={asked.fold}: protocol='first' takes both from the {len(pool):,} "
            "images of the pool, and no fold (fold=-1)."
        )
    if (dataset.labels_N[:num_labels] < 0).any():
        raise UserError(
            f"num_labels={num_labels}: not all of the first images of {dataset.name} "
            "have a label; ask for fewer, or use protocol='balanced'."
        )
    rest, rng = pool[max(num_labels, num_unlabeled) :], np.random.default_rng(seed)
    _, validation = _of_each_class(dataset, rest, asked, 0, rng)
    return Split(pool[:num_labels], pool[:num_unlabeled], validation)


def two_phase(dataset: Dataset, asked: Asked, seed: int) -> Split:
    """The index lists of the two-phase tutorial on CIFAR-10, for rows sorted by id:
    5,000 labeled and another 20,000 unlabeled, whatever the seed and
    labeled_in_unlabeled; images to validate are drawn by `seed` from the rest."""
    K, N = len(dataset.class_names), len(dataset.labels_N)
    _check_divisible("num_labels", asked.num_labels, K)
    _check_divisible("num_validation", asked.num_validation, K)
    if N != 50_000:
        raise UserError(
            "protocol='two_phase' is made of CIFAR-10's 50,000 training images, and "
            f"{dataset.name} has {N:,}: use protocol='balanced'."
        )
    shuffled = np.arange(50_000, dtype=np.int32)
    np.random.default_rng(0).shuffle(shuffled)
    labeled, unlabeled, rest = np.split(shuffled, [5_000, 25_000])
    rng = np.random.default_rng(seed)
    _, validation = _of_each_class(dataset, rest, asked, 0, rng)
    return Split(np.sort(labeled), np.sort(unlabeled), validation)


def planetoid(dataset: Dataset, asked: Asked, seed: int) -> Split:
    """A citation network's own labeled and validation nodes (arXiv:1603.08861),
    whatever the seed; all but the latter are unlabeled."""
    if len(dataset.folds) != 2:
        raise UserError(
            "protocol='planetoid' is the split of a citation network, and "
            f"{dataset.name} is none: use protocol='balanced'."
        )
    labeled, validation = dataset.folds
    if (asked.num_labels, asked.num_validation) != (len(labeled), len(validation)):
        raise UserError(
            f"num_labels={asked.num_labels}, num_validation={asked.num_validation}: "
            f"the split of {dataset.name} has {len(labeled)} labels and "
            f"{len(validation)} nodes to validate; use those numbers, or "
            "protocol='balanced'."
        )
    pool = np.arange(len(dataset.labels_N), dtype=np.int32)
    return Split(labeled, np.setdiff1d(pool, validation), validation)


PROTOCOLS = {
    "balanced": balanced,
    "first": first,
    "two_phase": two_phase,
    "planetoid": planetoid,
}


def hidden(split: Split) -> np.ndarray:
    """hidden_U: whether an image of the unlabeled set has its label hidden from the run,
    so that its truth, where it is known, is a test of what the run says of it. Those
    that are labeled or validate are none."""
    granted = np.concatenate([split.labeled, split.validation])
    return np.isin(split.unlabeled, granted, invert=True)


def candidates(split: Split) -> np.ndarray:
    """The unlabeled images whose label is not granted: sorted index_N into the pool."""
    return split.unlabeled[hidden(split)]


def _of_each_class(
    dataset: Dataset,
    drawable: np.ndarray,
    asked: Asked,
    num_labels: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """(labeled, validation), sorted: of each class in turn, shuffled, the first
    `num_labels` images of those `drawable` (0: all but the last), and the last that
    asked.num_validation asks of a class.

    Raises:
      UserError: a class has fewer.
    """
    labeled, validation = [], []
    last = asked.num_validation // len(dataset.class_names)
    for c, class_name in enumerate(dataset.class_names):
        of_class = rng.permutation(drawable[dataset.labels_N[drawable] == c])
        if num_labels + last > len(of_class):
            raise UserError(
                f"class {class_name!r} has {len(of_class):,} images to draw from, but "
                f"num_labels={asked.num_labels} and num_validation="
                f"{asked.num_validation} ask for {num_labels + last:,} of each class: "
                "ask for fewer."
            )
        end = len(of_class) - last
        labeled.append(of_class[: num_labels or end])
        validation.append(of_class[end:])
    return np.sort(np.concatenate(labeled)), np.sort(np.concatenate(validation))


def _check_divisible(what: str, number: int, num_classes: int) -> None:
    if number % num_classes:
        below = number // num_classes * num_classes
        valid = f"{below + num_classes}"
        if below:  # 0 is valid, but means another thing than "a few"
            valid = f"{below} or {valid}"
        raise UserError(
            f"{what}={number} is not divisible by the {num_classes} classes: "
            f"use {valid}."
        )


def _fold(dataset: Dataset, asked: Asked) -> np.ndarray:
    """The predefined labeled set, sorted."""
    if asked.fold >= len(dataset.folds):
        raise UserError(
            f"fold={asked.fold}: {dataset.name} has {len(dataset.folds)} predefined "
            "folds; use fold=-1 to draw labels by seed, or a fold that there is."
        )
    labeled = dataset.folds[asked.fold]
    if asked.num_labels not in (0, len(labeled)):
        raise UserError(
            f"num_labels={asked.num_labels}, but fold {asked.fold} of {dataset.name} "
            f"has {len(labeled):,} labels: use that number, or 0."
        )
    return np.sort(labeled)
