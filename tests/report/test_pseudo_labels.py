"""Figures of how good pseudo-labels were."""

import numpy as np
import pytest

from ssl_jax.report.figures import curves, pseudo_labels
from ssl_jax.workdir.workdir import Workdir


def _row(step, classes):
    """A row of the journal, with an empty bin and what has no value."""
    reliability = [[10.0, (m + 0.5) / 15, m / 15] for m in range(15)]
    reliability[0] = [0.0, None, None]
    return {
        "step": step,
        "train/loss": 1.0,
        "train/share_kept": 0.5,
        "train/kept_accuracy": 0.9,
        "train/rejected_accuracy": 0.4 if step > 1 else None,
        "train/kept_per_class": [k + 0.1 * step for k in range(classes)],
        "train/threshold_per_class": [None, *[0.5] * (classes - 1)],
        "train/ece": 1 / step,
        "train/reliability": reliability,
    }


@pytest.mark.parametrize("steps", [1, 30])
@pytest.mark.parametrize("classes", [3, 20, 25])
def test_figures_of_pseudo_labels_are_files(tmp_path, steps, classes):
    """A warning of matplotlib's (no handles, an empty slice) fails the test."""
    rows = [_row(step + 1, classes) for step in range(steps)]
    names = [f"class {k}" for k in range(classes)]
    Workdir(tmp_path).draw("train", curves.of_phase("t", rows, None, names))
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "train_learning_curves.png",
        "train_pseudo_labels.png",
        "train_pseudo_label_classes.png",
        "train_reliability.png",
    }


def test_figures_show_what_the_rows_say():
    rows = [_row(step, 3) for step in (1, 2, 4)]
    rows.append({**_row(5, 3), "train/ece": None})  # diverged: the row before is drawn
    (axes,) = pseudo_labels.pseudo_label_quality(rows, "t").axes
    assert [line.get_label() for line in axes.lines][2] == "right, of the rejected"
    kept, threshold = pseudo_labels.pseudo_label_classes(
        rows, ["a", "b", "c"], "t"
    ).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in kept.lines}
    assert lines["c"] == [[1, 2.1], [2, 2.2], [4, 2.4], [5, 2.5]]
    assert np.isnan(threshold.lines[0].get_ydata()).all()
    rows = [_row(step, 25) for step in (1, 2)]
    kept, _ = pseudo_labels.pseudo_label_classes(rows, ["x"] * 25, "t").axes
    lines = {line.get_label(): line.get_ydata().tolist() for line in kept.lines}
    assert lines == {
        "greatest": [24.1, 24.2],
        "median": [12.1, 12.2],
        "least": [0.1, 0.2],
    }


def test_a_threshold_that_all_classes_share_is_one_line():
    for values, lines in (
        ([0.95] * 3, {"all classes": [0.95, 0.95]}),
        ([None] * 3, {"all classes": [None, None]}),
        ([0.5, 0.5, 0.6], {"_a": [0.5, 0.5], "b": [0.5, 0.5], "c": [0.6, 0.6]}),
    ):
        rows = [{**_row(s, 3), "train/threshold_per_class": values} for s in (1, 2)]
        figure = pseudo_labels.pseudo_label_classes(rows, ["_a", "b", "c"], "t")
        kept, threshold = figure.axes
        drawn = {line.get_label(): line.get_ydata() for line in threshold.lines}
        assert list(drawn) == list(lines) and len(kept.lines) == 3
        for name, line in lines.items():
            np.testing.assert_array_equal(drawn[name], np.array(line, float))
        names = [text.get_text() for text in figure.legends[0].get_texts()]
        assert names == ["_a", "b", "c"]


def test_the_reliability_diagram_is_of_the_last_row_with_an_ece():
    rows = [_row(1, 3), _row(4, 3), {**_row(5, 3), "train/ece": None}]
    figure = pseudo_labels.reliability(rows, "t")
    assert figure.get_suptitle() == "t: ECE 0.250 at step 4"
    bars, shares, errors = figure.axes
    heights = [bar.get_height() for bar in bars.patches]
    np.testing.assert_allclose(heights, np.arange(1, 15) / 15)  # none for the empty bin
    np.testing.assert_allclose(
        [b.get_height() for b in shares.patches][:2], [0, 1 / 14]
    )
    assert errors.lines[0].get_xdata().tolist() == [1, 4, 5]


def test_an_older_journal_draws_without_the_rejected():
    journal_of_old = [{"step": 1, "train/share_kept": 0.5, "train/kept_accuracy": 0.9}]
    (axes,) = pseudo_labels.pseudo_label_quality(journal_of_old, "t").axes
    assert len(axes.lines) == 2
