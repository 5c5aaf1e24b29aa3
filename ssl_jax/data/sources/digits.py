"""scikit-learn's 1,797 real 8x8 digits: embedded, so they need no download."""

import numpy as np

from ssl_jax.data.dataset import Dataset
from ssl_jax.data.wanted import Wanted
from ssl_jax.errors import UserError

NUM_TEST = 500


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
    # Here because it takes a second, which the other sources need not pay.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    height, width, channels, num_classes = wanted.digits_as
    if wanted.image_size:
        height = width = wanted.image_size
    images_NHW, digits_N = load_digits(return_X_y=True)
    images_NHW = images_NHW.reshape(-1, 8, 8)
    most = 10 * (np.bincount(digits_N).min() * NUM_TEST // len(digits_N))
    if num_classes % 10 or not 10 <= num_classes <= most:
        raise UserError(
            f"data.digits_as={wanted.digits_as} has {num_classes} classes: the last "
            f"number must be a multiple of 10, from 10 to {most}."
        )
    images_NHW = np.round(images_NHW * (255 / 16)).astype(np.uint8)
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    images_NHWC = images_NHW[:, rows[:, None], columns, None].repeat(channels, axis=-1)

    train, test = map(
        np.sort,
        train_test_split(
            np.arange(len(digits_N)),
            test_size=NUM_TEST,
            stratify=digits_N,
            random_state=0,
        ),
    )
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
    from sklearn.datasets import load_digits

    images_NHW, digits_N = load_digits(return_X_y=True)
    order = np.arange(len(digits_N))
    np.random.RandomState(0).shuffle(order)
    images_NHWC = (15 * images_NHW[order]).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels_N = digits_N[order].astype(np.int32)
    return Dataset(
        name="digits_tutorial",
        images_NHWC=images_NHWC[:330],
        labels_N=labels_N[:330],
        test_images_MHWC=images_NHWC[330:],
        test_labels_M=labels_N[330:],
        class_names=tuple(str(digit) for digit in range(10)),
    )


def _dealt(digits_N: np.ndarray, num_classes: int) -> np.ndarray:
    """labels_N: the images of each digit dealt in turn to its num_classes / 10."""
    labels_N = digits_N.astype(np.int32)
    for digit in range(10):
        (of_digit,) = np.nonzero(digits_N == digit)
        rank = np.arange(len(of_digit), dtype=np.int32)
        labels_N[of_digit] += 10 * (rank % (num_classes // 10))
    return labels_N
