"""The figures that papers report."""

import numpy as np
import pytest

from ssl_jax.evaluate import reported


def _rows(tests, vals=None):
    rows = [{"step": k, "test/accuracy": test} for k, test in enumerate(tests)]
    for row, val in zip(rows, vals or [], strict=bool(vals)):
        row["val/accuracy"] = val
    return [*rows[:1], {"step": 0.5, "train/loss": 1.0}, *rows[1:]]


def test_four_figures_by_hand():
    figures = reported.reported(_rows([0.1, 0.9, 0.4, 0.6], [0.3, 0.5, 0.7, 0.7]))
    assert figures == {
        "accuracy": 0.6,
        "accuracy_median20": 0.5,
        "evaluations": 4,
        "accuracy_at_best_val": 0.4,  # the first of the two best
        "accuracy_best_on_test": 0.9,
    }


def test_median_is_of_the_last_twenty_and_nothing_is_chosen_without_validation():
    figures = reported.reported(_rows([0.0] * 30 + [k / 20 for k in range(20)]))
    assert figures["accuracy_median20"] == pytest.approx(9.5 / 20)
    assert figures["evaluations"] == 50
    assert figures["accuracy_at_best_val"] is None


def test_a_teacher_at_chance_beside_a_network_that_is_not_is_told_of_once():
    """MobileNet's EMA on a tutorial's labels: 10.03%, where the network had 51.6%."""

    def row(judged, trained, step=6000):
        accuracies = {"test/accuracy": judged, "train/accuracy": trained}
        return {"phase": "train", "step": step, **accuracies}

    dead = row(0.1003, 0.516)
    said = reported.warning([row(0.4, 0.5)], dead, classes=10)
    assert "'train' at step 6000" in said and "ema_warmup" in said
    assert "test/accuracy 0.1003 of 10 classes" in said
    assert "train/accuracy 0.516" in said
    assert reported.warning([dead], row(0.1, 0.95, 7000), classes=10) is None  # told
    for well in (row(0.16, 0.93), row(0.1003, 0.39), {"phase": "train", "step": 1}):
        assert reported.warning([], well, classes=10) is None
    assert reported.warning([], row(0.56, 1.0), classes=2) is None
    assert reported.warning([], row(0.5, 1.0), classes=2)
    assert reported.warning([], row(None, 1.0), classes=2) is None  # nothing judged


def test_without_test_images_a_collapse_shows_in_the_projections_alone():
    def row(std, step=100, **more):
        row = {"phase": "pretrain", "step": step, "train/loss": 2.0}
        return {**row, "train/projection_std": std, **more}

    said = reported.warning([row(0.7)], row(0.05, 200), tested=False)
    assert "has collapsed at step 200: train/projection_std 0.05 (collapsed" in said
    assert reported.warning([row(0.05)], row(0.05, 200), tested=False) is None  # told
    assert reported.warning([], row(0.7), tested=False) is None
    assert reported.warning([], row(0.05, **{"train/loss": None}), tested=False) is None
    assert reported.warning([], row(0.05)) is None  # its evaluations have both numbers


def test_striking_are_the_surest_mistakes_and_the_least_sure_that_are_right():
    sure_M = np.array([3.0, 1.0, 2.0, 9.0, 4.0, 5.0])
    logits_M2 = np.stack([sure_M, np.zeros(6)], -1)  # all are said to be of class 0
    labels_M = np.array([1, 1, 1, 0, 0, 0])
    assert reported.striking(logits_M2, labels_M).tolist() == [0, 2, 1, 4, 5, 3]
    assert reported.striking(logits_M2, labels_M, 2).tolist() == [0, 2, 4, 5]
    assert reported.striking(logits_M2[:3], 1 - labels_M[:3], 2).tolist() == [1, 2]
