"""Tables by hand; figures are drawn (their look is for people)."""

import numpy as np

from ssl_jax.report import formats
from ssl_jax.report.figures import curves, images
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
    axes = curves.confusion_matrix(counts_KK, ["cat", "dog"], "t").axes[0]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts[1, 0] == "1"  # column 1 (predicted dog) of row 0 (truth cat)
    assert "predicted" in axes.get_xlabel() and "true" in axes.get_ylabel()


def test_learning_curves_draw_what_the_rows_have():
    rows = [
        {"step": 1, "train/loss": 2.0},
        {"step": 2, "train/loss": 1.0, "test/loss": 3.0, "test/accuracy": 0.5},
    ]
    loss, accuracy = curves.learning_curves(rows, "t").axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert lines == {"train": [[1, 2], [2, 1]], "test": [[2, 3]]}
    assert [line.get_label() for line in accuracy.lines] == ["test"]


def test_figures_are_files(tmp_path):
    rows = [{"step": 1, "train/loss": 1.0, "train/share_kept": 0.5, "test/accuracy": 1}]
    rows[0]["train/kept_accuracy"] = 0.9
    views = {"plain": np.zeros((3, 8, 8, 1), np.uint8)}
    figures = {"views": images.views_grid(views, "t")}
    figures |= curves.of_phase("t", rows, np.eye(2), ["a", "b"])
    Workdir(tmp_path).draw("train", figures)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "train_learning_curves.png",
        "train_confusion_matrix.png",
        "train_pseudo_labels.png",
        "train_views.png",
    }
