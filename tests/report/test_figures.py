"""Tables by hand; figures are drawn (their look is for people)."""

import itertools
from functools import partial

import numpy as np
import pytest

from ssl_jax.report import formats, measured
from ssl_jax.report.figures import active, curves, drawing, images
from ssl_jax.report.page import of_run
from ssl_jax.workdir import logs
from ssl_jax.workdir.workdir import Workdir


def test_mean_std_is_of_the_sample():
    assert formats.mean_std([0.01, 0.03, 0.05]) == "3.00 ± 2.00 (3)"
    assert formats.mean_std([0.5]) == "50.00 (1)"


def test_markdown_table():
    table = formats.markdown_table(["a", "b"], [["1", "2"]])
    assert table == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_clock():
    assert [logs.clock(s) for s in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]


def test_confusion_matrix_shows_truth_by_rows():
    counts_KK = np.array([[3, 1], [0, 4]])
    figure = curves.confusion_matrix(counts_KK, ["cat", "dog"], "t", "test nodes")
    axes = figure.axes[0]
    texts = {text.get_position(): text for text in axes.texts}
    assert texts[1, 0].get_text() == "1"  # column 1 (predicted dog) of row 0 (true cat)
    assert texts[0, 1].get_alpha() < 0.5 < texts[1, 0].get_alpha()  # none is faint
    assert "predicted" in axes.get_xlabel() and "true" in axes.get_ylabel()
    assert figure.get_suptitle() == "t\naccuracy 87.50% on 8 test nodes"


_LOSSES = {  # row of the journal -> the first panel's lines, and what they are
    "byol": (
        {"train/loss": 3, "train/objective": 2, "test/loss": 9, "test/objective": 2.5},
        {"train": 2, "test": 2.5},
        "objective",
    ),
    "autoencoder": (
        {
            "train/loss": 1,
            "train/reconstruction_loss": 1,
            "test/reconstruction_loss": 2,
        },
        {"train": 1, "test": 2},
        "reconstruction loss",
    ),
    "fixmatch": (
        {"train/loss": 3, "train/labeled_loss": 1, "val/loss": 2, "test/loss": 2.5},
        {"train": 1, "val": 2, "test": 2.5},
        "cross-entropy of labeled images",
    ),
    "gcn": (
        {"train/loss": 3, "train/cross_entropy": 1, "test/loss": 2},
        {"train": 1, "test": 2},
        "cross-entropy",
    ),
    "supervised": (
        {"train/loss": 3, "test/loss": 2},
        {"train": 3, "test": 2},
        "cross-entropy",
    ),
}


@pytest.mark.parametrize("row, lines, label", _LOSSES.values(), ids=_LOSSES)
def test_learning_curves_draw_like_with_like(row, lines, label):
    rows = [{"step": 4, **row}]
    for figure in (curves.learning_curves(rows, "t"), curves.bands([rows] * 2, "t")):
        axes = figure.axes[0]
        drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
        names = {"train": "train, as trained on"}
        assert drawn == {names.get(name, name): [y] for name, y in lines.items()}
        assert axes.get_ylabel() == label
        # One point alone is seen: a line would need two.
        assert all(line.get_marker() == "o" for line in axes.lines)


def _band(axes):
    """Least and most of what is filled."""
    (filled,) = axes.collections
    heights = filled.get_paths()[0].vertices[:, 1]
    return heights.min(), heights.max()


def test_bands_are_a_deviation_of_the_sample_around_the_mean():
    """1 and 3: 2 +- the root of 2."""
    rows_of = [[{"step": 4, "train/loss": loss}] for loss in (1.0, 3.0)]
    expected = pytest.approx((2 - 2**0.5, 2 + 2**0.5))
    assert _band(curves.bands(rows_of, "t").axes[0]) == expected
    of = of_run.seed_curve(rows_of, "train/loss", "t", 0)
    assert (of.ys, of.spread) == ([2], pytest.approx([2**0.5]))
    drawn = active.strategy_curves(
        {"test": {"random": np.array([[1.0, 1.0], [3.0, 3.0]])}}, [10, 20], "t"
    )
    assert _band(drawn.axes[0]) == expected


def test_labels_that_spread_have_no_cross_entropy_to_train_on():
    rows = [{"step": 4, "train/loss": 0.1, "test/loss": 0.4, "test/accuracy": 1}]
    change, accuracy = curves.learning_curves(rows, "t", measured.CHANGE).axes
    assert [line.get_label() for line in change.lines] == ["train, as trained on"]
    assert change.get_ylabel() == "change of the labels in a step"
    assert accuracy.get_ylabel() == "accuracy"


def test_an_online_probe_without_labels_has_no_accuracy():
    row = {"step": 4, "train/loss": 3, "train/objective": 2, "test/accuracy": 0.1}
    panels = [axes.get_ylabel() for axes in curves.learning_curves([row], "t").axes]
    assert panels == ["objective", "training loss; parts, unweighted"]
    row["train/accuracy"] = 0.2
    panels = [axes.get_ylabel() for axes in curves.learning_curves([row], "t").axes]
    assert panels[1] == "accuracy of the online probe"


def test_no_panel_is_empty():
    row = {"step": 4, "train/loss": 3, "test/effective_rank": 20, "test/accuracy": 0.1}
    (axes,) = curves.representation_curves([row], "t").axes  # an autoencoder's
    assert -1 < axes.get_ylim()[0] < 0 and axes.get_ylim()[1] > 21
    both = [row | {"test/knn_accuracy": 0.5, "train/accuracy": 0.2}]
    _, axes = curves.representation_curves(both, "t").axes
    assert [line.get_label() for line in axes.lines] == ["k-NN", "online linear probe"]


def test_learning_curves_draw_what_the_rows_have():
    rows = [
        {"step": 1, "train/loss": 2.0},
        {"step": 2, "train/loss": 1.0, "test/loss": 3.0, "test/accuracy": 0.5},
    ]
    loss, accuracy = curves.learning_curves(rows, "t").axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert lines == {"train, as trained on": [[1, 2], [2, 1]], "test": [[2, 3]]}
    assert [line.get_label() for line in accuracy.lines] == ["test"]
    steps = loss.get_xticks()
    assert (steps == steps.round()).all() and len(steps) < 7


def test_ten_lines_are_ten_lines():
    ways = [tuple(style.values()) for style in drawing.styles(10)]
    for one, other in itertools.combinations(ways, 2):
        assert sum(a != b for a, b in zip(one, other, strict=True)) >= 2
    assert len({tuple(style.values()) for style in drawing.styles(140)}) == 140
    for color in drawing.PALETTE:  # its contrast with white, by WCAG: yellow has 1.3
        red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
        luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
        assert 1.05 / (luminance + 0.05) > 2


def test_titles_and_names_fit():
    assert drawing.wrapped("one two\nthree", 20) == "one two\nthree"
    lines = drawing.wrapped("word " * 40, 5).splitlines()
    assert len(lines) > 2 and max(map(len, lines)) <= 55
    assert drawing.short("a" * 24) == "a" * 24
    assert drawing.short("begins " + "x" * 90 + " ends", 10) == "begin…ends"


def test_frames_and_colours_have_a_legend():
    images_NHWC = np.zeros((2, 8, 8, 1), np.uint8)
    same_Qk = np.array([[True, False], [False, False]])
    pairs_QkHWC = images_NHWC[:, None].repeat(2, 1)
    figure = images.nearest_neighbors(images_NHWC, pairs_QkHWC, same_Qk, "t")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["of its class", "of another class"]
    row = {"image": "a", "predicted": "1", "label": "2"}
    entry = {"queried": [row], "labels": 40, "accuracy": 0.5}
    figure = active.rounds_grid([entry], [images_NHWC], "t")
    assert "wrong" in figure.legends[0].get_texts()[0].get_text()


def test_class_names_that_begin_with_an_underscore_are_in_the_legend():
    points_M2 = np.zeros((2, 2))
    figure = images.feature_map({"PCA": points_M2}, np.arange(2), ["_a", "b"], "t")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["_a", "b"]


def test_figures_are_files(tmp_path):
    rows = [{"step": 1, "train/loss": 1.0, "train/share_kept": 0.5, "test/accuracy": 1}]
    rows[0]["train/kept_accuracy"] = 0.9
    views = {"plain": np.zeros((3, 8, 8, 1), np.uint8)}
    figures = {"views": partial(images.views_grid, views, "t")}
    figures |= curves.of_phase("t", rows, np.eye(2), ["a", "b"])
    Workdir(tmp_path).draw("train", figures)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "train_learning_curves.png",
        "train_confusion_matrix.png",
        "train_pseudo_labels.png",
        "train_views.png",
    }
