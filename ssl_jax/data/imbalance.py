"""Classes that are rarer than others, made of a split that has them alike.

A shape and gamma, how many times as frequent the first class is as the last, say it of
the labeled images and of the others apart. Both shapes are the papers' (exponential:
Cui et al., arXiv:1901.05555; step: Buda et al., arXiv:1710.05381), and numbers are
rounded down, as in USB (microsoft/Semi-supervised-learning, `make_imbalance_data` of
semilearn/datasets/utils.py at 1ef4cbe).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ssl_jax.data.dataset import Dataset
from ssl_jax.data.splits import Split
from ssl_jax.errors import UserError

SHAPES = ("exponential", "step")


class Imbalance(NamedTuple):
    """What is asked for, by the names of its fields in a config's section `data`."""

    imbalance: str = ""  # one of `SHAPES`; "": classes are as the split has them
    gamma_labeled: float = 1.0
    gamma_unlabeled: float = 1.0  # below 1: the last class is the most frequent


def mistakes(asked: Imbalance, num_labels: int) -> Iterator[str]:
    """What is wrong whatever the data set."""
    if asked.imbalance not in ("", *SHAPES):
        yield (
            f"data.imbalance={asked.imbalance!r} is unknown; use "
            f"{' or '.join(SHAPES)}, or leave it ''."
        )
    gammas = (asked.gamma_labeled, asked.gamma_unlabeled)
    if not asked.imbalance and gammas != (1, 1):
        yield (
            f"data.gamma_labeled={asked.gamma_labeled}, data.gamma_unlabeled="
            f"{asked.gamma_unlabeled} have no effect without data.imbalance; use "
            f"{' or '.join(SHAPES)}, or 1.0."
        )
    if asked.imbalance and not num_labels:
        yield (
            f"data.imbalance={asked.imbalance!r} thins out the classes, and "
            "data.num_labels=0 is every label: say how many there would be if all "
            "classes were as frequent as the first."
        )


def shares(shape: str, gamma: float, num_classes: int) -> np.ndarray:
    """share_K of the most frequent class's images: exponential, gamma^(-k / (K - 1)) of
    class k; step, 1 of the first half of the classes (and of the one in the middle),
    1 / gamma of the others. With gamma below 1 those of 1 / gamma, the last first."""
    if gamma < 1:
        return shares(shape, 1 / gamma, num_classes)[::-1]
    k = np.arange(num_classes)
    if shape == "step":
        return np.where(k < (num_classes + 1) // 2, 1.0, 1 / gamma)
    return gamma ** -(k / max(num_classes - 1, 1))


def thinned(
    dataset: Dataset, split: Split, asked: Imbalance, num_unlabeled: int, seed: int
) -> Split:
    """The split with `asked.imbalance`; the images that validate are as they were.

    Labeled: of the most frequent class all that the split labels; those of other
    classes that lose their label are drawn by `seed`, and are as if they had none.
    Unlabeled: of those and the others in the split's unlabeled set, drawn by `seed`,
    and beside them the labeled ones, if that has these.

    Args:
      num_unlabeled: images without a label, if all classes were as frequent as the
        most frequent; 0: as many as there are enough of.

    Raises:
      UserError: a class keeps no label, or has too few images; or the truth of
        unlabeled images, by which they are drawn, is not known.
    """
    rng, K = np.random.default_rng([seed, 1]), len(dataset.class_names)
    labeled_K = _by_class(dataset, split.labeled, rng)
    share_K = shares(asked.imbalance, asked.gamma_labeled, K)
    most = len(labeled_K[share_K.argmax()])
    count_K = _counts(most, share_K)
    if not count_K.all():
        # Below 1 it is the first class that is rare.
        fits = f"{most} or less" if asked.gamma_labeled > 1 else f"1/{most} or more"
        raise UserError(
            f"data.gamma_labeled={asked.gamma_labeled} leaves the class "
            f"{dataset.class_names[count_K.argmin()]!r} none of {most} labels: use "
            f"data.gamma_labeled={fits}, or more of data.num_labels."
        )
    there_K = np.array([len(of_class) for of_class in labeled_K])
    if (count_K > there_K).any():
        c = (count_K > there_K).argmax()
        raise UserError(
            f"data.gamma_labeled={asked.gamma_labeled} asks for {count_K[c]:,} labels "
            f"of the class {dataset.class_names[c]!r}, beside {most:,} of the most "
            f"frequent, but the split labels {there_K[c]:,}: use data.split=balanced."
        )
    labeled = _first(labeled_K, count_K)
    belonging = labeled[np.isin(labeled, split.unlabeled)]
    rest = np.setdiff1d(np.union1d(split.unlabeled, split.labeled), labeled)
    if num_unlabeled or asked.gamma_unlabeled != 1:
        if unknown := int((dataset.labels_N[rest] < 0).sum()):
            raise UserError(
                f"data.gamma_unlabeled={asked.gamma_unlabeled}, data.num_unlabeled="
                f"{num_unlabeled}: {unknown:,} images of {dataset.name} have no known "
                "class, by which they would be drawn; use 1.0 and 0."
            )
        rest = _drawn(dataset, rest, asked, num_unlabeled, rng)
    return Split(labeled, np.union1d(belonging, rest), split.validation)


def _drawn(dataset, rest, asked, num_unlabeled, rng):
    """Those of the unlabeled images `rest` that stay."""
    K = len(dataset.class_names)
    rest_K = _by_class(dataset, rest, rng)
    there_K = np.array([len(of_class) for of_class in rest_K])
    share_K = shares(asked.imbalance, asked.gamma_unlabeled, K)
    fitting = int((there_K / share_K + 1e-9).min())
    most = num_unlabeled // K if num_unlabeled else fitting
    count_K = _counts(most, share_K)
    if (count_K > there_K).any():
        c = (count_K > there_K).argmax()
        raise UserError(
            f"data.num_unlabeled={num_unlabeled}, data.gamma_unlabeled="
            f"{asked.gamma_unlabeled} ask for {count_K[c]:,} images of the class "
            f"{dataset.class_names[c]!r}, of which {there_K[c]:,} have no label: use "
            f"data.num_unlabeled={fitting * K} or less, or 0."
        )
    return _first(rest_K, count_K)


def _by_class(dataset, index_N, rng):
    """The images of each class, shuffled."""
    labels_N = dataset.labels_N[index_N]
    classes = range(len(dataset.class_names))
    return [rng.permutation(index_N[labels_N == c]) for c in classes]


def _counts(most, share_K):
    return np.floor(most * share_K + 1e-9).astype(int)


def _first(index_K, count_K):
    """So many of each class, sorted int32."""
    kept = [of[:count] for of, count in zip(index_K, count_K, strict=True)]
    return np.sort(np.concatenate(kept)).astype(np.int32)
