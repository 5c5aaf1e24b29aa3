"""What settings are judged by: labeled images that a trial does not learn from.

No test image comes this far: `data.dataset.without_test` is what a search reads.
"""

from collections.abc import Mapping

import numpy as np
from jax.sharding import Mesh

from ssl_jax.data import loading
from ssl_jax.data.loading import Data
from ssl_jax.data.splits import Split
from ssl_jax.errors import UserError

FEW = 2  # images of a class at least, where it has twice as many


def sizes(labels_L: np.ndarray, share: float) -> Mapping[int, int]:
    """{class: its labeled images that are held out} of the labels of all: their share,
    rounded, or `FEW` if that is more and not above half; one of each stays to learn
    from."""
    classes, counts = np.unique(labels_L, return_counts=True)
    return {
        int(c): int(min(max(round(share * n), min(FEW, n // 2)), n - 1))
        for c, n in zip(classes, counts, strict=True)
    }


def split(
    split: Split, labels_N: np.ndarray, share: float, *, seed: int, draw: int
) -> Split:
    """The split with some of its labeled images to validate on instead of its own, and
    no part of the unlabeled set either.

    Args:
      draw: 0, 1, ...: each holds out other images of a class, as long as those
        suffice, and then others together.

    Raises:
      UserError: no class has two labeled images.
    """
    labels_L, held = labels_N[split.labeled], []
    for c, size in sizes(labels_L, share).items():
        of_class = split.labeled[labels_L == c]
        # Shuffled anew when all were held out: of two labels a class the third draw
        # would else be the first once more, and its figures no others.
        times, place = divmod(draw, len(of_class) // max(size, 1))
        order = np.random.default_rng([seed, c, times]).permutation(len(of_class))
        held.append(of_class[order[place * size : (place + 1) * size]])
    validation = np.sort(np.concatenate(held))
    if not len(validation):
        raise UserError(
            f"--mode=tune holds out labeled images to choose by, and none of the "
            f"{len(labels_L)} classes has two: label more of them."
        )
    return Split(
        labeled=np.setdiff1d(split.labeled, validation),
        unlabeled=np.setdiff1d(split.unlabeled, validation),
        validation=validation,
    )


def drawn(data: Data, share: float, mesh: Mesh, *, seed: int, draw: int) -> Data:
    """The data of a trial: `split`, and "val" alone to be judged on.

    Raises:
      UserError: as `split`.
    """
    parts = split(data.split, data.dataset.labels_N, share, seed=seed, draw=draw)
    return loading.resplit(data, parts, mesh)


def without(data: Data, share: float, *, seed: int) -> Data:
    """The data of a run that learns as the trials of draw 0 do, and validates on its
    own images, if it has any.

    Raises:
      UserError: as `split`.
    """
    parts = split(data.split, data.dataset.labels_N, share, seed=seed, draw=0)
    return data._replace(split=parts._replace(validation=data.split.validation))
