"""Runs made visible, in colours that colour-blind readers tell apart."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ssl_jax.report.figures.drawing import (
    BLUE,
    MANY,
    ORANGE,
    VERMILLION,
    entitle,
    from_zero,
    line,
    of_steps,
    short,
    styles,
)
from ssl_jax.report.figures.pseudo_labels import (
    pseudo_label_classes,
    pseudo_label_counts,
    pseudo_label_quality,
    reliability,
)
from ssl_jax.report.measured import CROSS_ENTROPY, panels, parts_of, series
from ssl_jax.workdir.drawing import Drawing

_LINES = {
    "train": dict(color=BLUE, linestyle=":"),
    "val": dict(color=ORANGE, linestyle="--"),
    "test": dict(color=VERMILLION, linestyle="-"),
}
# Training sees views, mixtures or a teacher's labels, and drops units.
_SAID = {"train": "train, as trained on", "val": "val", "test": "test"}


def learning_curves(rows: list[dict], title: str, loss: str = CROSS_ENTROPY) -> Figure:
    """Loss and accuracy against steps, for train, validation and test: the same
    quantity on each; and what the training loss is made of, where it has parts.

    Args:
      loss: what train/loss is in a method that logs nothing more telling.
    """
    shown, parts = panels([rows], loss), parts_of(rows)
    count = len(shown) + (len(parts) > 1)
    figure = Figure(figsize=(max(5.4, 4.5 * count), 3.6), layout="constrained")
    entitle(figure, title)
    grid = figure.subplots(1, count, squeeze=False)[0]
    for axes, (label, keys) in zip(grid, shown, strict=False):
        for name, key in keys.items():
            steps, values = series(rows, key)
            if steps:
                line(axes, steps, values, label=_SAID[name], **_LINES[name])
        of_steps(axes, label)
        if axes.lines:
            axes.legend()
    if len(parts) > 1:
        for (name, key), style in zip(parts.items(), styles(len(parts)), strict=True):
            steps, values = series(rows, key)
            line(grid[-1], steps, values, label=name, **style | {"marker": ""})
        of_steps(grid[-1], "training loss; parts, unweighted")
        grid[-1].legend()
    return figure


def confusion_matrix(
    counts_KK: np.ndarray, class_names: Sequence[str], title: str, of: str = "images"
) -> Figure:
    """Truth by rows, prediction by columns; counts as text up to 20 classes; above it
    the share that is right.

    Args:
      of: what is classified: "test images", "test nodes".
    """
    K, total = len(class_names), counts_KK.sum()
    side = max(5.6, 0.36 * K) if K <= MANY else 5.6
    figure = Figure(figsize=(side + 0.8, side + 0.3), layout="constrained")
    axes = figure.subplots()
    share_KK = counts_KK / counts_KK.sum(1, keepdims=True).clip(1)
    # By its power 0.4, so that a share of 1% is told from none.
    image = axes.imshow(share_KK, cmap="cividis", norm=PowerNorm(0.4, 0, 1))
    figure.colorbar(image, label="share of the true class")
    right = f"accuracy {np.trace(counts_KK) / max(total, 1):.2%} on {total:,.0f} {of}"
    entitle(figure, f"{title}\n{right}")
    axes.set(xlabel="predicted class", ylabel="true class")
    if K > MANY:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="predicted class, by number", ylabel="true class, by number")
        return figure
    names = [short(name) for name in class_names]
    level = max(map(len, names)) < 8 * side / K  # each in its column
    slanting = {} if level else dict(rotation=45, ha="right", rotation_mode="anchor")
    axes.set_xticks(range(K), names, **slanting)
    axes.set_yticks(range(K), names)
    digits = len(f"{counts_KK.max():.0f}")
    size = min(10, 72 * 0.75 * side / K / (0.65 * digits))  # fits its cell
    for (row, column), count in np.ndenumerate(counts_KK):
        color = "black" if share_KK[row, column] > 0.3 else "white"
        faint = dict(alpha=1 if count else 0.3, color=color, fontsize=size)
        axes.text(column, row, f"{count:.0f}", ha="center", va="center", **faint)
    return figure


def comparison(rows_of: dict[str, list[dict]], title: str) -> Figure:
    """Test accuracy of several phases against their steps: the one that began from
    learned features beside the one that began from scratch."""
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for (name, rows), style in zip(rows_of.items(), styles(len(rows_of)), strict=True):
        line(axes, *series(rows, "test/accuracy"), label=name, **style)
    of_steps(axes, "test accuracy")
    entitle(figure, title)
    axes.legend()
    return figure


def representation_curves(rows: list[dict], title: str) -> Figure:
    """What would show a collapse, against steps, and k-NN and online probe accuracy
    where there is one."""
    keys = {key for row in rows for key in row}
    judges = {"test/knn_accuracy": ("k-NN", dict(color=VERMILLION, linestyle="-"))}
    # An online probe that was granted no label has learned nothing.
    if "train/accuracy" in keys:
        probe = dict(color=BLUE, linestyle="--")
        judges["test/accuracy"] = "online linear probe", probe
    judges = {key: said for key, said in judges.items() if key in keys}
    count = 2 if judges else 1
    figure = Figure(figsize=(4.5 * count + 0.9, 3.6), layout="constrained")
    entitle(figure, title)
    collapse, *accuracies = figure.subplots(1, count, squeeze=False)[0]
    line(collapse, *series(rows, "test/effective_rank"), color=BLUE)
    of_steps(collapse, "")
    from_zero(collapse)
    collapse.set_ylabel("effective rank of the features", color=BLUE)
    steps, values = series(rows, "train/projection_std")
    if steps:
        std = collapse.twinx()
        line(std, steps, values, color=VERMILLION, linestyle="--")
        std.set(ylim=(-0.022, 1.1))  # its 0 beside the other's
        std.set_ylabel("std of projections x sqrt(P)", color=VERMILLION)
    for axes in accuracies:
        for key, (label, style) in judges.items():
            line(axes, *series(rows, key), label=label, **style)
        of_steps(axes, "test accuracy")
        axes.legend()
    return figure


def of_phase(
    title: str,
    rows: list[dict],
    counts_KK: np.ndarray | None,
    class_names: Sequence[str],
    unit: str = "images",
    loss: str = CROSS_ENTROPY,
) -> dict[str, Drawing]:
    """What a trained phase can show, by kind.

    Args:
      rows: of its journal.
      counts_KK: of test images, [truth, prediction]; None: it does not classify.
      unit: what it classifies.
      loss: as in `learning_curves`.
    """
    figures = {"learning_curves": partial(learning_curves, rows, title, loss)}
    if counts_KK is not None:
        figures["confusion_matrix"] = partial(
            confusion_matrix, counts_KK, class_names, title, f"test {unit}"
        )
    if any("test/effective_rank" in row for row in rows):
        figures["representation"] = partial(representation_curves, rows, title)
    trained = [row for row in rows if row["step"] > 0]
    if any("train/share_kept" in row for row in trained):
        figures["pseudo_labels"] = partial(pseudo_label_quality, rows, title)
    if any("train/kept_per_class" in row for row in trained):
        figures["pseudo_label_classes"] = partial(
            pseudo_label_classes, rows, class_names, title
        )
    if rows[0]["step"] == 0:  # labels that a teacher gave before the first step
        figures["pseudo_label_counts"] = partial(
            pseudo_label_counts, rows[0], class_names, title
        )
    if any(row.get("train/ece") is not None for row in rows):
        figures["reliability"] = partial(reliability, rows, title)
    return figures


def bands(
    rows_of: Sequence[list[dict]], title: str, loss: str = CROSS_ENTROPY
) -> Figure:
    """Loss and accuracy against steps, as `learning_curves`: mean and standard
    deviation over the seeds that have not stopped; and how the last test accuracies are
    distributed.

    Args:
      rows_of: the journal's rows of each seed.
    """
    shown = panels(rows_of, loss)
    accuracies = [rows[-1].get("test/accuracy") for rows in rows_of]
    count = len(shown) + (None not in accuracies)
    figure = Figure(figsize=(4 * count, 3.6), layout="constrained")
    entitle(figure, f"{title}: mean ± std")
    grid = figure.subplots(1, count, squeeze=False)[0]
    for axes, (label, keys) in zip(grid, shown, strict=False):
        for name, key in keys.items():
            _band(axes, rows_of, key, name)
        of_steps(axes, label)
        if axes.lines:
            axes.legend()
    if None not in accuracies:
        grid[-1].hist(accuracies, bins="auto", color=VERMILLION, edgecolor="white")
        grid[-1].set(xlabel="test accuracy at the end", ylabel="seeds")
        grid[-1].locator_params(axis="x", nbins=4)
        grid[-1].yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _band(axes: Axes, rows_of, key, name):
    values_of = {}  # step -> of the seeds
    for rows in rows_of:
        for step, value in zip(*series(rows, key), strict=True):
            values_of.setdefault(step, []).append(value)
    if values_of:
        steps = sorted(values_of)
        of_seeds = [np.array(values_of[step], float) for step in steps]
        mean = np.array([values.mean() for values in of_seeds])
        # Of the sample, as in result.json; of one seed none.
        std = np.array([v.std(ddof=1) if len(v) > 1 else 0.0 for v in of_seeds])
        line(axes, steps, mean, label=_SAID[name], **_LINES[name])
        spread = dict(color=_LINES[name]["color"], alpha=0.2)
        axes.fill_between(steps, mean - std, mean + std, **spread)
