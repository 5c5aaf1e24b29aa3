"""How good pseudo-labels were, drawn."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssl_jax.report.figures.drawing import (
    BLUE,
    GREEN,
    MANY,
    ORANGE,
    SKY,
    VERMILLION,
    entitle,
    from_zero,
    line,
    of_steps,
    short,
    styles,
)
from ssl_jax.report.measured import series


def pseudo_label_quality(rows: list[dict], title: str) -> Figure:
    """Share of pseudo-labels kept, and shares right among the kept and the rejected,
    against steps."""
    figure = Figure(figsize=(5.4, 4), layout="constrained")
    axes = figure.subplots()
    for metric, label, color, style in (
        ("train/share_kept", "kept, of all", BLUE, "-"),
        ("train/kept_accuracy", "right, of the kept", VERMILLION, "--"),
        ("train/rejected_accuracy", "right, of the rejected", GREEN, ":"),
    ):
        steps, values = series(rows, metric)
        if steps:
            line(axes, steps, values, label=label, color=color, linestyle=style)
    of_steps(axes, "share of pseudo-labels")
    axes.set(ylim=(-0.02, 1.02))
    entitle(figure, title)
    below = dict(loc="outside lower center", fontsize="small")  # hides no line there
    figure.legend(ncols=3, **below)
    return figure


def pseudo_label_classes(
    rows: list[dict], class_names: Sequence[str], title: str
) -> Figure:
    """Pseudo-labels kept and the threshold, for each class, against steps; above 20
    classes the least, the median and the greatest of the classes. A threshold that all
    classes share is one line."""
    height = max(3.9, 0.26 * len(class_names)) if len(class_names) <= MANY else 3.9
    figure = Figure(figsize=(10, height), layout="constrained")
    entitle(figure, title)
    kept, threshold = figure.subplots(1, 2)
    named = _classes(kept, *series(rows, "train/kept_per_class"), class_names)
    figure.legend(*named, loc="outside right center")
    steps, values = series(rows, "train/threshold_per_class")
    of_class = np.array(values, float).reshape(-1, len(class_names)).T
    if np.array_equal(of_class, of_class[:1].repeat(len(of_class), 0), equal_nan=True):
        line(threshold, steps, of_class[0], color="black", label="all classes")
        threshold.legend()
    else:
        _classes(threshold, steps, values, class_names)
    of_steps(kept, "kept of the class, images a step")
    from_zero(kept)
    of_steps(threshold, "threshold of the class")
    threshold.set(ylim=(-0.02, 1.02))
    return figure


def _classes(axes: Axes, steps, values, class_names):
    """A line for each class, or their quantiles; None in `values` is a gap. Returns
    (lines, names) for a legend: one that is told of no names leaves out those that
    begin with an underscore."""
    K = len(class_names)
    values_SK = np.array(values, float).reshape(-1, K)
    if K > MANY:
        for q, name, style in (
            (1, "greatest", "--"),
            (0.5, "median", "-"),
            (0, "least", ":"),
        ):
            line_S = np.quantile(values_SK, q, axis=1)
            line(axes, steps, line_S, linestyle=style, color=BLUE, label=name)
        return axes.lines, [each.get_label() for each in axes.lines]
    apart = -(-len(steps) // 8)  # steps between markers, which no two classes share
    for k, (class_name, style) in enumerate(zip(class_names, styles(K), strict=True)):
        axes.plot(
            steps,
            values_SK[:, k],
            linewidth=1.2,
            markersize=5,
            markevery=(k * apart // K, max(apart, 1)),
            label=class_name,
            **style,
        )
    return axes.lines, [short(name) for name in class_names]


def pseudo_label_counts(row: dict, class_names: Sequence[str], title: str) -> Figure:
    """What a teacher said at once: pseudo-labels of each class, and those kept."""
    K = len(class_names)
    width = min(max(5.4, 0.3 * K), 20)
    figure = Figure(figsize=(width, 4.2), layout="constrained")
    axes = figure.subplots()
    style = dict(edgecolor="black", linewidth=0.7)
    said, kept = (row[f"train/{word}_per_class"] for word in ("predicted", "kept"))
    axes.bar(range(K), said, color="white", hatch="//", label="predicted", **style)
    axes.bar(range(K), kept, color=BLUE, label="of them kept", **style)
    names = [short(name) for name in class_names]
    if K <= 3 * MANY:  # one under each bar
        level = sum(map(len, names)) < 8 * width
        axes.set_xticks(range(K), names, rotation=0 if level else 90)
    axes.set(xlabel="class", ylabel="images")
    entitle(figure, f"{title}: {row['train/share_kept']:.1%} of the labels kept")
    figure.legend(loc="outside lower center", ncols=2)  # there it hides no bar
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
    entitle(figure, f"{title}: ECE {last['train/ece']:.3f} at step {last['step']}")
    grid = figure.add_gridspec(
        2, len(columns), height_ratios=(3, 1), width_ratios=columns
    )
    bars, shares = (figure.add_subplot(grid[k, 0]) for k in range(2))
    style = dict(width=1 / M, edgecolor="black", linewidth=0.7)
    bars.bar(centres_M[some_M], accuracy_M[some_M], color=SKY, **style)
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
    shares.set(yscale="log", ylim=(1e-4, 1))  # most are sure
    shares.set_yticks((1e-4, 1e-2, 1), ("0.01%", "1%", "100%"))
    panels = [bars, shares]
    if len(steps) > 1:
        errors = figure.add_subplot(grid[:, 1])
        line(errors, steps, errors_S, color=BLUE)
        of_steps(errors, "ECE")
        from_zero(errors)
        panels.append(errors)
    for axes in panels:
        axes.set_axisbelow(True)
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)  # there it hides no bar
    return figure
