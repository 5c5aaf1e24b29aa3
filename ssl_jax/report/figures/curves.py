"""Runs made visible, in colours that colour-blind readers tell apart."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from ssl_jax.report.figures.drawing import (
    BLUE,
    ORANGE,
    PALETTE,
    VERMILLION,
    series,
)
from ssl_jax.report.figures.pseudo_labels import (
    pseudo_label_classes,
    pseudo_label_counts,
    pseudo_label_quality,
    reliability,
)

_LINES = {
    "train": dict(color=BLUE, linestyle=":"),
    "val": dict(color=ORANGE, linestyle="--"),
    "test": dict(color=VERMILLION, linestyle="-"),
}


def learning_curves(rows: list[dict], title: str) -> Figure:
    """Loss and accuracy against steps, for train, validation and test."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(title)
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name, line in _LINES.items():
            steps, values = series(rows, f"{name}/{metric}")
            if steps:
                axes.plot(steps, values, label=name, **line)
        axes.set(xlabel="step", ylabel=metric)
        axes.grid(alpha=0.3)
        if axes.lines:  # an autoencoder has no accuracy, and its legend would warn
            axes.legend()
    return figure


def confusion_matrix(
    counts_KK: np.ndarray, class_names: Sequence[str], title: str
) -> Figure:
    """Truth by rows, prediction by columns; counts as text up to 20 classes."""
    K = len(class_names)
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    share_KK = counts_KK / counts_KK.sum(1, keepdims=True).clip(1)
    # By its power 0.4, so that a share of 1% is told from none.
    image = axes.imshow(share_KK, cmap="cividis", norm=PowerNorm(0.4, 0, 1))
    figure.colorbar(image, label="share of the true class")
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    if K <= 20:
        axes.set_xticks(range(K), class_names, rotation=45, ha="right")
        axes.set_yticks(range(K), class_names)
        for (row, column), count in np.ndenumerate(counts_KK):
            color = "black" if share_KK[row, column] > 0.3 else "white"
            axes.text(
                column, row, f"{count:.0f}", ha="center", va="center", color=color
            )
    return figure


def comparison(rows_of: dict[str, list[dict]], title: str) -> Figure:
    """Test accuracy of several phases against their steps: the one that began from
    learned features beside the one that began from scratch."""
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    axes = figure.subplots()
    styles = itertools.cycle(("-", "--", "-.", ":"))
    for (name, rows), color in zip(rows_of.items(), PALETTE, strict=False):
        steps, values = series(rows, "test/accuracy")
        axes.plot(steps, values, label=name, color=color, linestyle=next(styles))
    axes.set(xlabel="step", ylabel="test accuracy", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def representation_curves(rows: list[dict], title: str) -> Figure:
    """k-NN and online probe accuracy, and what would show a collapse, against steps."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(title)
    accuracies, collapse = figure.subplots(1, 2)
    # An online probe that was granted no label has learned nothing.
    probed = any("train/accuracy" in row for row in rows)
    for key, label, color, line, drawn in (
        ("test/accuracy", "online linear probe", BLUE, "--", probed),
        ("test/knn_accuracy", "k-NN", VERMILLION, "-", True),
    ):
        if drawn and any(key in row for row in rows):
            steps, values = series(rows, key)
            accuracies.plot(steps, values, label=label, color=color, linestyle=line)
            accuracies.legend()
    accuracies.set(xlabel="step", ylabel="test accuracy")
    steps, values = series(rows, "test/effective_rank")
    collapse.plot(steps, values, color=BLUE)
    collapse.set(xlabel="step", ylim=(0, None))
    collapse.set_ylabel("effective rank of the features", color=BLUE)
    steps, values = series(rows, "train/projection_std")
    if steps:
        std = collapse.twinx()
        std.plot(steps, values, color=VERMILLION, linestyle="--")
        std.set(ylim=(0, 1.1))
        std.set_ylabel("std of projections x sqrt(P)", color=VERMILLION)
    for axes in (accuracies, collapse):
        axes.grid(alpha=0.3)
    return figure


def of_phase(
    title: str,
    rows: list[dict],
    counts_KK: np.ndarray | None,
    class_names: Sequence[str],
) -> dict[str, Figure]:
    """What a trained phase can show, by kind.

    Args:
      rows: of its journal.
      counts_KK: of test images, [truth, prediction]; None: it does not classify.
    """
    figures = {"learning_curves": learning_curves(rows, title)}
    if counts_KK is not None:
        figures["confusion_matrix"] = confusion_matrix(
            counts_KK, class_names, f"{title}: test images"
        )
    if any("test/effective_rank" in row for row in rows):
        figures["representation"] = representation_curves(rows, title)
    trained = [row for row in rows if row["step"] > 0]
    if any("train/share_kept" in row for row in trained):
        figures["pseudo_labels"] = pseudo_label_quality(rows, title)
    if any("train/kept_per_class" in row for row in trained):
        figures["pseudo_label_classes"] = pseudo_label_classes(rows, class_names, title)
    if rows[0]["step"] == 0:  # labels that a teacher gave before the first step
        figures["pseudo_label_counts"] = pseudo_label_counts(
            rows[0], class_names, title
        )
    if any(row.get("train/ece") is not None for row in rows):
        figures["reliability"] = reliability(rows, title)
    return figures


def bands(rows_of: Sequence[list[dict]], title: str) -> Figure:
    """Loss and accuracy against steps: mean and standard deviation over the seeds that
    have not stopped, and how the last test accuracies are distributed.

    Args:
      rows_of: the journal's rows of each seed.
    """
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    figure.suptitle(title)
    *curves, last = figure.subplots(1, 3)
    for axes, metric in zip(curves, ("loss", "accuracy"), strict=True):
        for name, line in _LINES.items():
            values_of = {}  # step -> of the seeds
            for rows in rows_of:
                for row in rows:
                    if f"{name}/{metric}" in row:
                        values_of.setdefault(row["step"], []).append(
                            row[f"{name}/{metric}"]
                        )
            if values_of:
                steps = sorted(values_of)
                mean = np.array([np.mean(values_of[step]) for step in steps])
                std = np.array([np.std(values_of[step]) for step in steps])
                axes.plot(steps, mean, label=name, **line)
                spread = dict(color=line["color"], alpha=0.2)
                axes.fill_between(steps, mean - std, mean + std, **spread)
        axes.set(xlabel="step", ylabel=metric)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    accuracies = [rows[-1].get("test/accuracy") for rows in rows_of]
    if None not in accuracies:
        last.hist(accuracies, bins="auto", color=VERMILLION, alpha=0.7)
    last.set(xlabel="test accuracy at the end", ylabel="seeds")
    return figure
