"""Numbers of what a classifier said of labeled images. NumPy alone: a page asks for no
device.

Shapes: logits_MK float, labels_M integers 0 to K - 1; probabilities' rows sum to 1.
"""

from typing import NamedTuple

import numpy as np

BINS = 15  # of confidence, as in Guo et al.'s experiments
LOWEST, HIGHEST = 0.05, 20.0  # temperatures


class PerClass(NamedTuple):
    """Of each class, arrays [K]; what has no images, or no predictions, is 0."""

    images: np.ndarray  # whole numbers
    predicted: np.ndarray
    accuracy: np.ndarray  # of its images, the share that is said to be of it: recall
    precision: np.ndarray  # of those said to be of it, the share that is
    f1: np.ndarray  # their harmonic mean


class Calibration(NamedTuple):
    """How far confidence is from being right."""

    temperature: float
    ece: float  # expected calibration error: arXiv:1706.04599, eq. 3
    nll: float  # negative log-likelihood, nats an image
    brier: float  # sum over the classes of squared errors, mean over the images
    count_M: np.ndarray  # images in each bin of confidence, ((m - 1) / BINS, m / BINS]
    confidence_M: np.ndarray  # mean of the bin; NaN without images
    accuracy_M: np.ndarray


def log_softmax(logits_MK: np.ndarray) -> np.ndarray:
    logits_MK = logits_MK.astype(np.float64)
    return logits_MK - np.logaddexp.reduce(logits_MK, axis=1, keepdims=True)


def confusion(labels_M: np.ndarray, predicted_M: np.ndarray, K: int) -> np.ndarray:
    """counts_KK int, [truth, prediction]."""
    flat = labels_M.astype(np.int64) * K + predicted_M
    return np.bincount(flat, minlength=K * K).reshape(K, K)


def per_class(counts_KK: np.ndarray) -> PerClass:
    right = np.diag(counts_KK)
    images, predicted = counts_KK.sum(1), counts_KK.sum(0)
    return PerClass(
        images,
        predicted,
        right / images.clip(1),
        right / predicted.clip(1),
        2 * right / (images + predicted).clip(1),
    )


def means(of: PerClass) -> tuple[float, float, float]:
    """(accuracy, precision, f1), over the classes that have images, as in result.json
    (`core.metrics.ByClass`): one that nobody could be right of lowers none."""
    there = of.images > 0
    return tuple(float(x[there].mean()) for x in (of.accuracy, of.precision, of.f1))


def wilson(right: int, images: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% interval of a share (Wilson, 1927): what so many test images can tell."""
    if not images:
        return 0.0, 1.0
    share, over = right / images, 1 + z**2 / images
    middle = (share + z**2 / (2 * images)) / over
    half = z / over * np.sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
    return float(max(middle - half, 0)), float(min(middle + half, 1))


def calibration(
    logits_MK: np.ndarray, labels_M: np.ndarray, temperature: float = 1.0
) -> Calibration:
    """Of softmax(logits / temperature)."""
    log_MK = log_softmax(logits_MK / temperature)
    probs_MK, rows = np.exp(log_MK), np.arange(len(labels_M))
    confidence, right = probs_MK.max(1), probs_MK.argmax(1) == labels_M
    at = (np.ceil(confidence * BINS).astype(int) - 1).clip(0, BINS - 1)
    count_M, sums_M, right_M = (
        np.bincount(at, weights=of, minlength=BINS)
        for of in (np.ones(len(at)), confidence, right.astype(float))
    )
    some_M = np.where(count_M > 0, count_M, np.nan)
    truth_MK = np.eye(probs_MK.shape[1])[labels_M]
    return Calibration(
        temperature,
        float(np.abs(right_M - sums_M).sum() / len(labels_M)),
        float(0.0 - log_MK[rows, labels_M].mean()),  # and never -0
        float(((probs_MK - truth_MK) ** 2).sum(1).mean()),
        count_M.astype(int),
        sums_M / some_M,
        right_M / some_M,
    )


def temperature(logits_MK: np.ndarray, labels_M: np.ndarray) -> float:
    """The T in [LOWEST, HIGHEST] at which softmax(logits / T) makes the labels most
    likely (Guo et al., arXiv:1706.04599, section 4.2), to about 1%.

    The loss is convex in 1 / T: its derivative, the mean over the images of the
    expected logit less the label's, is followed to where it is 0, by halving.
    """
    logits_MK = logits_MK.astype(np.float64)
    given_M = logits_MK[np.arange(len(labels_M)), labels_M]
    low, high = 1 / HIGHEST, 1 / LOWEST  # of 1 / T
    while high / low > 1.001:
        middle = np.sqrt(low * high)
        probs_MK = np.exp(log_softmax(middle * logits_MK))
        slope = ((probs_MK * logits_MK).sum(1) - given_M).mean()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(1 / np.sqrt(low * high))


class Scaled(NamedTuple):
    """Calibration before and after a temperature, and what that was found on."""

    before: Calibration
    after: Calibration
    found_on: str  # in words
    shown_on: str


def scaled(logits, labels) -> Scaled | None:
    """Of the test images, by a temperature that none of those shown has part in: found
    on validation images, or without any on every other test image; None of one alone.

    Args:
      logits, labels: of "test", and "val" where there is one.
    """
    test = logits["test"], labels["test"]
    if len(labels.get("val", ())):
        found, shown = (logits["val"], labels["val"]), test
        words = "the {:,} validation images", "all {:,} test images"
    else:
        found, shown = ([of[half::2] for of in test] for half in (0, 1))
        words = (
            "every other test image ({:,}; there are no validation images)",
            "the other {:,} test images",
        )
    if not len(shown[1]):
        return None
    T = temperature(*found)
    found_on, shown_on = words
    return Scaled(
        calibration(*shown),
        calibration(*shown, T),
        found_on.format(len(found[1])),
        shown_on.format(len(shown[1])),
    )
