"""Which images of the training pool are labeled, unlabeled or held out to validate.

A protocol is a function (dataset, asked, seed) -> Split in the table `PROTOCOLS`. What
it gives is checked by `split`: it leaves each class a labeled image. Messages call what
is asked for by the fields of a config, data.num_labels for example.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ssl_jax.data.dataset import Dataset
from ssl_jax.errors import UserError
from ssl_jax.workdir.inventory import Inventory


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
        that has a label and does not validate, or those of the protocol.
      num_validation: images to validate on in all, the same number of each class; they
        leave the unlabeled set. 0 where the data set has its own.
      labeled_in_unlabeled: whether the unlabeled set has the labeled images as well,
        all of them.
      fold: the predefined labeled set to use (STL-10: 0 to 9); -1: draw by `seed`.
      num_unlabeled: images in the unlabeled set, those that are not labeled drawn by
        `seed`; 0: all.
      protocol: `balanced`, `first`, `two_phase` or `planetoid`, the functions below.

    Raises:
      UserError: the numbers do not fit the protocol, the classes, the fold or the pool,
        or leave a class without a labeled image.
    """
    asked = Asked(num_labels, num_validation, num_unlabeled, labeled_in_unlabeled, fold)
    for mistake in mistakes(protocol, asked):
        raise UserError(mistake)
    if dataset.num_held_out and num_validation:
        raise UserError(
            f"data.num_validation={num_validation}: {dataset.name} has "
            f"{dataset.num_held_out:,} images of its own to validate on; use 0."
        )
    if not dataset.class_names:
        return _all_unlabeled(dataset, asked, seed)
    num_drawn = len(dataset.labels_N) - dataset.num_held_out
    drawn_from = dataset._replace(labels_N=dataset.labels_N[:num_drawn])
    parts = PROTOCOLS[protocol](drawn_from, asked, seed)
    if dataset.num_held_out:
        held_out = np.arange(num_drawn, len(dataset.labels_N), dtype=np.int32)
        parts = parts._replace(validation=held_out)
    _check_every_class(dataset, asked, parts, protocol)
    return parts


def kept(dataset: Dataset, asked: Asked, before: Inventory) -> Split:
    """The split of a run whose images came and went since: what was labeled then and
    what validated, as far as it is there, by name; nothing is drawn.

    All else is unlabeled, whatever num_unlabeled was. But where every label was asked
    for (num_labels=0), what came with one is in no set: nobody need be asked for it.
    The same holds of what came to the images of its own that the data set validates on.
    """
    row_of = {name: row for row, name in enumerate(dataset.names_N)}
    labeled, validation = (
        np.array(sorted(row_of[name] for name in names if name in row_of), np.int32)
        for names in (before.labeled, before.validation)
    )
    # Those that a CSV file gave their label are without one until it is read again.
    labeled = labeled[dataset.labels_N[labeled] >= 0]
    pool = np.arange(len(dataset.labels_N) - dataset.num_held_out, dtype=np.int32)
    rest = np.setdiff1d(pool, np.concatenate([labeled, validation]))
    if not asked.num_labels:
        rest = rest[dataset.labels_N[rest] < 0]
    belonging = labeled if asked.labeled_in_unlabeled else labeled[:0]
    return Split(labeled, np.union1d(belonging, rest), validation)


def mistakes(protocol: str, asked: Asked) -> Iterator[str]:
    """What is wrong whatever the data set."""
    if protocol not in PROTOCOLS:
        *others, last = map(repr, PROTOCOLS)
        yield f"data.split={protocol!r}: use {', '.join(others)} or {last}."
    if protocol == "two_phase":
        lists = asked.num_labels in (0, 5_000) and asked.num_unlabeled in (0, 20_000)
        if not lists or asked.fold >= 0:
            yield (
                f"data.num_labels={asked.num_labels}, data.num_unlabeled="
                f"{asked.num_unlabeled}, data.fold={asked.fold}: "
                "data.split='two_phase' labels 5,000 images of its own and has another "
                "20,000 unlabeled; use those numbers (or 0) and data.fold=-1."
            )
    elif protocol in PROTOCOLS and protocol != "balanced" and asked.fold >= 0:
        yield (
            f"data.fold={asked.fold}: data.split={protocol!r} takes no predefined "
            "fold; use data.fold=-1, or data.split='balanced'."
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
    rest = np.setdiff1d(pool, np.concatenate([labeled, validation]))
    belonging = labeled if asked.labeled_in_unlabeled else labeled[:0]
    if asked.num_unlabeled > len(belonging) + len(rest):
        raise UserError(
            f"data.num_unlabeled={asked.num_unlabeled}, but there are "
            f"{len(belonging) + len(rest)} unlabeled images: ask for fewer, or 0 for "
            "all."
        )
    if asked.num_unlabeled:
        _check_room(asked, len(belonging))
        rest = rng.permutation(rest)[: asked.num_unlabeled - len(belonging)]
    return Split(labeled, np.union1d(belonging, rest), validation)


def first(dataset: Dataset, asked: Asked, seed: int) -> Split:
    """The first num_labels images of the pool are labeled, whatever their classes, and
    the first num_unlabeled unlabeled, as tutorials slice their arrays (those behind the
    labeled ones, if they are not to have these); images to validate are drawn by `seed`
    from what both leave."""
    _check_divisible("num_validation", asked.num_validation, len(dataset.class_names))
    pool = np.arange(len(dataset.labels_N), dtype=np.int32)
    num_labels = asked.num_labels or len(pool)
    begin = 0 if asked.labeled_in_unlabeled else num_labels
    end = begin + asked.num_unlabeled if asked.num_unlabeled else len(pool)
    if max(num_labels, end) > len(pool):
        raise UserError(
            f"data.num_labels={num_labels}, data.num_unlabeled={asked.num_unlabeled}: "
            f"data.split='first' takes both from the {len(pool):,} images of the pool; "
            "ask for fewer."
        )
    if asked.num_unlabeled and asked.labeled_in_unlabeled:
        _check_room(asked, num_labels)
    if (dataset.labels_N[:num_labels] < 0).any():
        raise UserError(
            f"data.num_labels={num_labels}: not all of the first images of "
            f"{dataset.name} have a label; ask for fewer, or use "
            "data.split='balanced'."
        )
    rest, rng = pool[max(num_labels, end) :], np.random.default_rng(seed)
    _, validation = _of_each_class(dataset, rest, asked, 0, rng)
    return Split(pool[:num_labels], pool[begin:end], validation)


def two_phase(dataset: Dataset, asked: Asked, seed: int) -> Split:
    """The index lists of the two-phase tutorial on CIFAR-10, for rows sorted by id:
    5,000 labeled and another 20,000 unlabeled, whatever the seed and
    labeled_in_unlabeled; images to validate are drawn by `seed` from the 5,000, so that
    no other label is ever used."""
    K, N = len(dataset.class_names), len(dataset.labels_N)
    _check_divisible("num_labels", asked.num_labels, K)
    _check_divisible("num_validation", asked.num_validation, K)
    if N != 50_000:
        raise UserError(
            "data.split='two_phase' is made of CIFAR-10's 50,000 training images, and "
            f"{dataset.name} has {N:,}: use data.split='balanced'."
        )
    shuffled = np.arange(50_000, dtype=np.int32)
    np.random.default_rng(0).shuffle(shuffled)
    granted, unlabeled, _ = np.split(shuffled, [5_000, 25_000])
    rng = np.random.default_rng(seed)
    none_drawn = asked._replace(num_labels=0)
    labeled, validation = _of_each_class(dataset, granted, none_drawn, 0, rng)
    return Split(labeled, np.sort(unlabeled), validation)


def planetoid(dataset: Dataset, asked: Asked, seed: int) -> Split:
    """A citation network's own labeled and validation nodes (arXiv:1603.08861),
    whatever the seed; all but the latter are unlabeled."""
    if len(dataset.folds) != 2:
        raise UserError(
            "data.split='planetoid' is the split of a citation network, and "
            f"{dataset.name} is none: use data.split='balanced'."
        )
    labeled, validation = dataset.folds
    own = len(labeled), len(validation)
    if (asked.num_labels or own[0], asked.num_validation) != own:
        raise UserError(
            f"data.num_labels={asked.num_labels}, data.num_validation="
            f"{asked.num_validation}: the split of {dataset.name} has {own[0]} labels "
            f"and {own[1]} nodes to validate; use data.num_labels={own[0]} (or 0) and "
            f"data.num_validation={own[1]}, or data.split='balanced'."
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
    """hidden_U: whether the label of an image of the unlabeled set is not granted, so
    that its truth, where it is known, tests what the run says of it. Images that are
    labeled or validate test nothing."""
    granted = np.concatenate([split.labeled, split.validation])
    return np.isin(split.unlabeled, granted, invert=True)


def candidates(split: Split) -> np.ndarray:
    """The unlabeled images whose label is not granted: sorted index_N into the pool."""
    return split.unlabeled[hidden(split)]


def _all_unlabeled(dataset: Dataset, asked: Asked, seed: int) -> Split:
    """Of a data set without any class: nothing is labeled, nothing validates."""
    for field in ("num_labels", "num_validation"):
        if number := getattr(asked, field):
            raise UserError(
                f"data.{field}={number}: no image of {dataset.name} has a label; use 0."
            )
    N, none = len(dataset.labels_N), np.zeros(0, np.int32)
    if asked.num_unlabeled > N:
        raise UserError(
            f"data.num_unlabeled={asked.num_unlabeled}, but there are {N:,} images: "
            "ask for fewer, or 0 for all."
        )
    drawn = np.random.default_rng(seed).permutation(N).astype(np.int32)
    return Split(none, np.sort(drawn[: asked.num_unlabeled or N]), none)


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
                f"data.num_labels={asked.num_labels} and data.num_validation="
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
            f"data.{what}={number} is not divisible by the {num_classes} classes: "
            f"use {valid}."
        )


def _check_room(asked: Asked, num_labeled: int) -> None:
    """Raises UserError unless all labeled images have a place in the unlabeled set."""
    if asked.num_unlabeled < num_labeled:
        raise UserError(
            f"data.num_unlabeled={asked.num_unlabeled} has no room for the "
            f"{num_labeled} labeled images, which are among the unlabeled ones: use "
            f"{num_labeled} or more, or data.labeled_in_unlabeled=False."
        )


def _check_every_class(
    dataset: Dataset, asked: Asked, parts: Split, protocol: str
) -> None:
    """Raises UserError where a class has no labeled image: nothing could be learned of
    it."""
    (lacking,) = np.nonzero(_counts(dataset, parts.labeled) == 0)
    if len(lacking):
        more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise UserError(
            f"class {dataset.class_names[lacking[0]]!r}{more} of {dataset.name} has "
            f"{_why_none(dataset, asked, parts, protocol, lacking[0])}"
        )


def _why_none(
    dataset: Dataset, asked: Asked, parts: Split, protocol: str, c: int
) -> str:
    """Why no image of class `c` is labeled, and what helps."""
    labels_N, K = dataset.labels_N, len(dataset.class_names)
    known_K = _counts(dataset, np.arange(len(labels_N)))
    if not known_K[c]:
        return "no image with a label in the training pool: label one."
    if known_K[c] == _counts(dataset, parts.validation)[c]:
        most = max(known_K.min() - 1, 0) * K
        return (
            f"{known_K[c]} images with a label, and data.num_validation="
            f"{asked.num_validation} holds out {asked.num_validation // K} of each "
            f"class, where one must stay to learn from: use data.num_validation={most}"
            f"{' or less' if most else ''}."
        )
    if protocol == "first":
        needed = max(np.argmax(labels_N == k) + 1 for k in range(K) if known_K[k])
        return (
            f"none of the first data.num_labels={asked.num_labels} images: use "
            f"{needed} or more, or data.split='balanced'."
        )
    own = f"data.fold={asked.fold}" if asked.fold >= 0 else f"data.split={protocol!r}"
    return (
        f"no image among those that {own} labels: use data.split='balanced' and "
        "data.fold=-1."
    )


def _counts(dataset: Dataset, index_N: np.ndarray) -> np.ndarray:
    """counts_K of these images that have a label."""
    labels_N = dataset.labels_N[index_N]
    return np.bincount(labels_N[labels_N >= 0], minlength=len(dataset.class_names))


def _fold(dataset: Dataset, asked: Asked) -> np.ndarray:
    """The predefined labeled set, sorted."""
    if asked.fold >= len(dataset.folds):
        raise UserError(
            f"data.fold={asked.fold}: {dataset.name} has {len(dataset.folds)} "
            "predefined folds; use data.fold=-1 to draw labels by seed, or a fold that "
            "there is."
        )
    labeled = dataset.folds[asked.fold]
    if asked.num_labels not in (0, len(labeled)):
        raise UserError(
            f"data.num_labels={asked.num_labels}, but fold {asked.fold} of "
            f"{dataset.name} has {len(labeled):,} labels: use that number, or 0."
        )
    return np.sort(labeled)
