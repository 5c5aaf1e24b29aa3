"""Images, labels and their names."""

from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """One image classification data set: a training pool of N images and M to test."""

    name: str
    images_NHWC: np.ndarray  # uint8: the pool; as a source has them, or labeled first
    labels_N: np.ndarray  # int32, -1 where there is no label
    test_images_MHWC: np.ndarray  # uint8
    test_labels_M: np.ndarray  # int32
    class_names: tuple[str, ...]
    folds: tuple[np.ndarray, ...]  # predefined labeled sets as pool indices, or ()
    names_N: tuple[str, ...] = ()  # paths of the pool's images; (): rows have no names
