"""scikit-learn's 1,797 real 8x8 digits: embedded, so they need no download.

Read from its file and split by a list of its making: importing scikit-learn takes two
seconds, as long as all else until the first step.
"""

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from ssl_jax.data.dataset import Dataset
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError

NUM_TEST = 500
# A bit for each image: whether scikit-learn's train_test_split puts it into the test
# set (of NUM_TEST, stratified, random_state=0).
_TEST = (
    "002004c8b526304000164121934205005a00080122240028062c1e081108960a009019120420"
    "fca0128110e040080adab0441524c942c8a00a2030804004d821408b8020004885c40010400e"
    "a090000548e800301000020ecc09005224840083b8013c21a69c0a0224000fc9402804a498cd"
    "02124061e500802c604e9c376a8192160154c8404842a0a4180a5000b40b8561e68811804b12"
    "6c80c02205068e420109f202c141398813c009190000148e21028410a8f50033283920c944c8"
    "c8680a0102932292030922a6402c26062108a8608198c8a0141286120a12853ca41500"
)


def serves(name: str) -> bool:
    return name in ("digits", "digits_tutorial")


def load(wanted: Wanted) -> Dataset:
    """1,297 images to train on, 500 to test: the same stratified split for every seed;
    or `load_tutorial`.

    Of `wanted`:
      digits_as: (H, W, C, K): the shape and the number of classes to serve. Images are
        resized by nearest neighbour, grey is repeated over channels, and digit c
        becomes the classes c, c + 10, c + 20, ... in turn. This is how the `:debug`
        word of a config stands digits in for its real data set.
      image_size: instead of H and W, unless it is 0.

    Raises:
      UserError: K is no multiple of 10, or so large that a class would have no image.
    """
    if wanted.name == "digits_tutorial":
        return load_tutorial()
    height, width, channels, num_classes = wanted.digits_as
    if wanted.image_size:
        height = width = wanted.image_size
    images_NHW, digits_N = _read()
    most = 10 * (np.bincount(digits_N).min() * NUM_TEST // len(digits_N))
    if num_classes % 10 or not 10 <= num_classes <= most:
        raise UserError(
            f"data.digits_as={wanted.digits_as} has {num_classes} classes: the last "
            f"number must be a multiple of 10, from 10 to {most}."
        )
    images_NHW = np.round(images_NHW * (255 / 16)).astype(np.uint8)
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    images_NHWC = images_NHW[:, rows[:, None], columns, None].repeat(channels, axis=-1)

    bits = np.unpackbits(np.frombuffer(bytes.fromhex(_TEST), np.uint8))
    is_test_N = bits[: len(digits_N)].astype(bool)
    train, test = np.flatnonzero(~is_test_N), np.flatnonzero(is_test_N)
    names = [str(digit) for digit in range(10)]
    if num_classes > 10:
        names = [f"{c % 10}-{c // 10}" for c in range(num_classes)]
    return Dataset(
        name="digits",
        images_NHWC=images_NHWC[train],
        labels_N=_dealt(digits_N[train], num_classes),
        test_images_MHWC=images_NHWC[test],
        test_labels_M=_dealt(digits_N[test], num_classes),
        class_names=tuple(names),
    )


def load_tutorial() -> Dataset:
    """The images of scikit-learn's example of active learning, in its order: 330 to
    train on (RandomState(0) shuffles all), and the other 1,467 to test.

    Pixels are 15 times scikit-learn's, which go from 0 to 16: no digit is lost.
    """
    images_NHW, digits_N = _read()
    order = np.arange(len(digits_N))
    np.random.RandomState(0).shuffle(order)
    images_NHWC = (15 * images_NHW[order, :, :, None]).astype(np.uint8)
    labels_N = digits_N[order].astype(np.int32)
    return Dataset(
        name="digits_tutorial",
        images_NHWC=images_NHWC[:330],
        labels_N=labels_N[:330],
        test_images_MHWC=images_NHWC[330:],
        test_labels_M=labels_N[330:],
        class_names=tuple(str(digit) for digit in range(10)),
    )


def _read():
    """(images_NHW from 0 to 16, digits_N), as sklearn.datasets.load_digits has them."""
    of_sklearn = Path(importlib.util.find_spec("sklearn").origin).parent
    with gzip.open(of_sklearn / "datasets/data/digits.csv.gz", "rt") as file:
        rows = np.loadtxt(file, delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(int)


def _dealt(digits_N: np.ndarray, num_classes: int) -> np.ndarray:
    """labels_N: the images of each digit dealt in turn to its num_classes / 10."""
    labels_N = digits_N.astype(np.int32)
    for digit in range(10):
        (of_digit,) = np.nonzero(digits_N == digit)
        rank = np.arange(len(of_digit), dtype=np.int32)
        labels_N[of_digit] += 10 * (rank % (num_classes // 10))
    return labels_N
