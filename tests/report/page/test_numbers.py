"""Numbers of a classifier against those of others, and against some worked by hand."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import precision_recall_fscore_support

from ssl_jax.core import metrics
from ssl_jax.report.page import numbers

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 300)
# Right three times in four, and far too sure.
LOGITS = 8 * (np.eye(4)[LABELS] + RNG.normal(0, 0.6, (300, 4)))


def test_classes_are_as_scikit_learn_has_them():
    predicted = LOGITS.argmax(1)
    counts_KK = numbers.confusion(LABELS, predicted, 5)  # the last is never met
    assert counts_KK[2, 3] == ((LABELS == 2) & (predicted == 3)).sum()
    of = numbers.per_class(counts_KK)
    precision, recall, f1, images = precision_recall_fscore_support(
        LABELS, predicted, labels=range(5), zero_division=0
    )
    for ours, theirs in (
        (of.precision, precision),
        (of.accuracy, recall),
        (of.f1, f1),
        (of.images, images),
    ):
        np.testing.assert_allclose(ours, theirs)


def test_means_over_the_classes_are_those_of_the_result():
    """Also where a class has no test image, and is said of some."""
    predicted = np.where(LABELS == 2, 4, LOGITS.argmax(1))
    counts_KK = numbers.confusion(LABELS, predicted, 6)
    accuracy, _, f1 = numbers.means(numbers.per_class(counts_KK))
    told = metrics.ByClass(counts_KK).compute()
    assert accuracy == pytest.approx(told["balanced_accuracy"])
    assert f1 == pytest.approx(told["f1"])


def test_calibration_is_the_one_that_training_logs():
    of = numbers.calibration(LOGITS, LABELS)
    probs = np.exp(numbers.log_softmax(LOGITS)).astype(np.float32)
    right = (probs.argmax(1) == LABELS).astype(np.float32)
    logged = metrics.Calibration.of(probs.max(1), right, np.ones(300, np.float32))
    logged = logged.compute()
    assert numbers.BINS == metrics.BINS
    assert of.ece == pytest.approx(logged["ece"], abs=1e-6)
    bins = np.stack([of.count_M, of.confidence_M, of.accuracy_M], -1)
    np.testing.assert_allclose(bins, logged["reliability"], atol=1e-6)


def test_calibration_by_hand():
    half = np.log(np.array([[0.75, 0.25], [0.75, 0.25]]))
    of = numbers.calibration(half, np.array([0, 1]))
    assert of.ece == pytest.approx(0.25)  # 75% sure, half of them right
    assert of.nll == pytest.approx(-(np.log(0.75) + np.log(0.25)) / 2)
    assert of.brier == pytest.approx((2 * 0.25**2 + 2 * 0.75**2) / 2)


def test_the_temperature_makes_the_labels_most_likely():
    found = numbers.temperature(LOGITS, LABELS)
    best = minimize_scalar(
        lambda T: numbers.calibration(LOGITS, LABELS, T).nll, bounds=(0.05, 20)
    )
    assert found == pytest.approx(best.x, rel=2e-3) and found > 1.5
    sure = 100 * np.eye(4)[LABELS]
    assert numbers.temperature(sure, LABELS) == pytest.approx(0.05, rel=2e-3)
    assert f"{numbers.calibration(sure, LABELS, 0.05).nll:.1f}" == "0.0"


def test_a_temperature_is_shown_on_images_that_it_was_not_found_on():
    """Scaling those it was found on by 3 scales it, and moves no image shown."""
    logits, labels = {"test": LOGITS}, {"test": LABELS}
    halves = numbers.scaled(logits, labels)
    assert "150" in halves.found_on and "150" in halves.shown_on
    louder = LOGITS.copy()
    louder[::2] *= 3
    again = numbers.scaled({"test": louder}, labels)
    ratio = again.after.temperature / halves.after.temperature
    assert ratio == pytest.approx(3, rel=4e-3)
    assert again.before.nll == halves.before.nll
    assert numbers.scaled({"test": LOGITS[:1]}, {"test": LABELS[:1]}) is None
    validated = numbers.scaled(
        {"val": LOGITS[:100], "test": LOGITS[100:]},
        {"val": LABELS[:100], "test": LABELS[100:]},
    )
    assert validated.found_on == "the 100 validation images"
    assert validated.shown_on == "all 200 test images"
    assert validated.after.nll < validated.before.nll
    assert validated.after.count_M.sum() == 200


def test_an_interval_by_hand():
    # Wilson's: (p + z^2 / 2n +- z sqrt(p q / n + z^2 / 4n^2)) / (1 + z^2 / n).
    low, high = numbers.wilson(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert numbers.wilson(10, 10)[1] == 1 and numbers.wilson(0, 0) == (0, 1)
