"""How good pseudo-labels were, drawn."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ssl_jax.report.figures.drawing import (
    BLUE,
    GREEN,
    MARKERS,
    ORANGE,
    PALETTE,
    VERMILLION,
    series,
)


def pseudo_label_quality(rows: list[dict], title: str) -> Figure:
    """Share of pseudo-labels kept, and shares right among the kept and the rejected,
    against steps."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    for metric, label, color, style in (
        ("train/share_kept", "kept, of all", BLUE, "-"),
        ("train/kept_accuracy", "right, of the kept", VERMILLION, "--"),
        ("train/rejected_accuracy", "right, of the rejected", GREEN, ":"),
    ):
        steps, values = series(rows, metric)
        if steps:
            axes.plot(steps, values, label=label, color=color, linestyle=style)
    axes.set(xlabel="step", ylabel="share of pseudo-labels", ylim=(-0.02, 1.02))
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def pseudo_label_classes(
    rows: list[dict], class_names: Sequence[str], title: str
) -> Figure:
    """Pseudo-labels kept and the threshold, for each class, against steps; above 20
    classes the least, the median and the greatest of the classes."""
    height = max(3.9, 0.26 * len(class_names)) if len(class_names) <= 20 else 3.9
    figure = Figure(figsize=(10, height), layout="constrained")
    figure.suptitle(title)
    kept, threshold = figure.subplots(1, 2)
    _classes(kept, *series(rows, "train/kept_per_class"), class_names)
    _classes(threshold, *series(rows, "train/threshold_per_class"), class_names)
    kept.set(xlabel="step", ylabel="kept of the class, images a step", ylim=(0, None))
    threshold.set(xlabel="step", ylabel="threshold of the class", ylim=(-0.02, 1.02))
    for axes in (kept, threshold):
        axes.grid(alpha=0.3)
    figure.legend(*kept.get_legend_handles_labels(), loc="outside right center")
    return figure


def _classes(axes, steps, values, class_names):
    """A line for each class, or their quantiles; None in `values` is a gap."""
    K = len(class_names)
    values_SK = np.array(values, float).reshape(-1, K)
    if K > 20:
        for q, name, style in (
            (1, "greatest", "--"),
            (0.5, "median", "-"),
            (0, "least", ":"),
        ):
            line_S = np.quantile(values_SK, q, axis=1)
            axes.plot(steps, line_S, style, color=BLUE, label=name)
        return
    apart = -(-len(steps) // 8)  # steps between markers, which no two classes share
    for k, class_name in enumerate(class_names):
        axes.plot(
            steps,
            values_SK[:, k],
            linewidth=1.2,
            markersize=5,
            markevery=(k * apart // K, max(apart, 1)),
            color=PALETTE[k % len(PALETTE)],
            linestyle=("-", "--", "-.", ":")[k % 4],
            marker=MARKERS[k % len(MARKERS)],
            label=class_name,
        )


def pseudo_label_counts(row: dict, class_names: Sequence[str], title: str) -> Figure:
    """What a teacher said at once: pseudo-labels of each class, and those kept."""
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    axes = figure.subplots()
    style = dict(edgecolor="black", linewidth=0.7)
    said, kept = (row[f"train/{word}_per_class"] for word in ("predicted", "kept"))
    axes.bar(class_names, said, color="white", hatch="//", label="predicted", **style)
    axes.bar(class_names, kept, color=BLUE, label="of them kept", **style)
    axes.set(xlabel="class", ylabel="images")
    axes.set_title(f"{title}: {row['train/share_kept']:.1%} of the labels kept")
    axes.tick_params(axis="x", rotation=90 if len(class_names) > 10 else 0)
    axes.legend(loc="lower right")
    return figure


def reliability(rows: list[dict], title: str) -> Figure:
    """Accuracy by confidence at the last log point that has it, the share of images in
    each bin, and the expected calibration error (ECE) against steps."""
    last = [row for row in rows if row.get("train/ece") is not None][-1]
    count_M, confidence_M, accuracy_M = np.array(last["train/reliability"], float).T
    M = len(count_M)
    centres_M = (np.arange(M) + 0.5) / M
    some_M = count_M > 0
    steps, errors_S = series(rows, "train/ece")
    # A teacher that speaks once has no course of errors.
    columns = (1.2, 1) if len(steps) > 1 else (1,)
    figure = Figure(figsize=(5 * len(columns), 4.6), layout="constrained")
    figure.suptitle(f"{title}: ECE {last['train/ece']:.3f} at step {last['step']}")
    grid = figure.add_gridspec(
        2, len(columns), height_ratios=(3, 1), width_ratios=columns
    )
    bars, shares = (figure.add_subplot(grid[k, 0]) for k in range(2))
    style = dict(width=1 / M, edgecolor="black", linewidth=0.7)
    bars.bar(centres_M[some_M], accuracy_M[some_M], color=PALETTE[5], **style)
    bars.plot([0, 1], [0, 1], "--", color="black", label="calibrated")
    bars.plot(
        confidence_M[some_M],
        accuracy_M[some_M],
        "o",
        color=VERMILLION,
        markeredgecolor="black",
        markersize=5,
        clip_on=False,
        label="mean of the bin",
    )
    bars.set(ylabel="share right", xlim=(0, 1), ylim=(0, 1.03))
    bars.tick_params(labelbottom=False)
    shares.bar(centres_M, count_M / count_M.sum(), color=ORANGE, **style)
    shares.set(xlabel="confidence", ylabel="share of\nimages", xlim=(0, 1))
    shares.set(yscale="log", ylim=(1e-4, 1), yticks=(1e-4, 1e-2, 1))  # most are sure
    panels = [bars, shares]
    if len(steps) > 1:
        errors = figure.add_subplot(grid[:, 1])
        errors.plot(steps, errors_S, color=BLUE)
        errors.set(xlabel="step", ylabel="ECE", ylim=(0, None))
        errors.locator_params(axis="x", nbins=5)
        panels.append(errors)
    for axes in panels:
        axes.set_axisbelow(True)
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)  # there it hides no bar
    return figure
