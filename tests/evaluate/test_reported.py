"""The figures that papers report."""

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
