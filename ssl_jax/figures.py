"""Runs made visible, in colours that colour-blind readers tell apart."""

import importlib
import importlib.util
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

# Okabe and Ito: told apart by colour-blind readers, and on a grey print.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PALETTE = (BLUE, ORANGE, GREEN, VERMILLION, "#CC79A7", "#56B4E9", "#F0E442", "#000000")
MARKERS = "ox^+sDv*<>"
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
            steps, values = _series(rows, f"{name}/{metric}")
            if steps:
                axes.plot(steps, values, label=name, **line)
        axes.set(xlabel="step", ylabel=metric)
        axes.grid(alpha=0.3)
        if axes.lines:  # an autoencoder has no accuracy, and its legend would warn
            axes.legend()
    return figure


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
        steps, values = _series(rows, metric)
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
    _classes(kept, *_series(rows, "train/kept_per_class"), class_names)
    _classes(threshold, *_series(rows, "train/threshold_per_class"), class_names)
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
    steps, errors_S = _series(rows, "train/ece")
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


def views_grid(views: dict[str, np.ndarray], title: str) -> Figure:
    """A row of images for each view; uint8 images_NHWC, C = 1 or 3."""
    count = min(10, *(len(images) for images in views.values()))
    size = (1.1 * count + 0.8, 1.15 * len(views) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(views), squeeze=False)[:, 0]
    # One axes a row: one an image take as long to lay out as all else in the figure.
    for axes, (name, images) in zip(grid, views.items(), strict=True):
        for i, image_HWC in enumerate(images[:count]):
            place = (1.1 * i, 1.1 * i + 1, 0, 1)
            shown = image_HWC.squeeze()
            axes.imshow(shown, cmap="gray", vmin=0, vmax=255, extent=place)
        axes.set(xlim=(0, 1.1 * count - 0.1), ylim=(0, 1), xticks=[], yticks=[])
        axes.set_ylabel(name)
        axes.spines[:].set_visible(False)
    return figure


def comparison(rows_of: dict[str, list[dict]], title: str) -> Figure:
    """Test accuracy of several phases against their steps: the one that began from
    learned features beside the one that began from scratch."""
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    axes = figure.subplots()
    styles = itertools.cycle(("-", "--", "-.", ":"))
    for (name, rows), color in zip(rows_of.items(), PALETTE, strict=False):
        steps, values = _series(rows, "test/accuracy")
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
            steps, values = _series(rows, key)
            accuracies.plot(steps, values, label=label, color=color, linestyle=line)
            accuracies.legend()
    accuracies.set(xlabel="step", ylabel="test accuracy")
    steps, values = _series(rows, "test/effective_rank")
    collapse.plot(steps, values, color=BLUE)
    collapse.set(xlabel="step", ylim=(0, None))
    collapse.set_ylabel("effective rank of the features", color=BLUE)
    steps, values = _series(rows, "train/projection_std")
    if steps:
        std = collapse.twinx()
        std.plot(steps, values, color=VERMILLION, linestyle="--")
        std.set(ylim=(0, 1.1))
        std.set_ylabel("std of projections x sqrt(P)", color=VERMILLION)
    for axes in (accuracies, collapse):
        axes.grid(alpha=0.3)
    return figure


def feature_map(
    maps: dict[str, np.ndarray],
    labels_M: np.ndarray,
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Features in two dimensions, points_M2 for each name, coloured by class.

    Markers change with the class as well: ten colours are too many to tell apart.
    """
    figure = Figure(figsize=(5 * len(maps) + 1.6, 4.8), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(1, len(maps), squeeze=False)[0]
    for axes, (name, points_M2) in zip(grid, maps.items(), strict=True):
        for k, class_name in enumerate(class_names):
            axes.scatter(
                *points_M2[labels_M == k].T,
                s=14,
                linewidths=0.7,
                color=PALETTE[k % len(PALETTE)],
                marker=MARKERS[k % len(MARKERS)],
                label=class_name,
            )
        axes.set(title=name, xticks=[], yticks=[])
    if len(class_names) <= 20:
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside right center")
    return figure


def nearest_neighbors(
    queries_QHWC: np.ndarray,
    neighbors_QkHWC: np.ndarray,
    same_class_Qk: np.ndarray,
    title: str,
) -> Figure:
    """A row for each test image: itself, then its nearest images in feature space,
    those of its own class in a solid blue frame, others in a dashed red one."""
    Q, k = same_class_Qk.shape
    figure = Figure(figsize=(0.9 * (k + 1), 0.95 * Q + 0.6), layout="constrained")
    figure.suptitle(title)
    for row, axes_row in enumerate(figure.subplots(Q, k + 1, squeeze=False)):
        images = [queries_QHWC[row], *neighbors_QkHWC[row]]
        for column, (axes, image_HWC) in enumerate(zip(axes_row, images, strict=True)):
            axes.imshow(image_HWC.squeeze(), cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            same = column and same_class_Qk[row, column - 1]
            frame = dict(color=BLUE if same else VERMILLION, linewidth=2)
            if column:
                frame["linestyle"] = "-" if same else "--"
                axes.spines[:].set(**frame)
    return figure


def save_views(prefix: Path, title: str, views: dict[str, np.ndarray]) -> None:
    save(views_grid(views, f"{title}: what the model sees"), prefix, "views")


def save_figures(
    prefix: Path,
    title: str,
    rows: list[dict],
    counts_KK: np.ndarray | None,
    class_names: Sequence[str],
) -> None:
    """Writes what a trained phase can show as <prefix>_*.png."""
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
    for kind, figure in figures.items():
        save(figure, prefix, kind)


def save_reconstructions(
    prefix: Path, title: str, images: dict[str, np.ndarray]
) -> None:
    images = {name: np.asarray(rows) for name, rows in images.items()}
    save(views_grid(images, f"{title}: test images"), prefix, "reconstructions")


def save_feature_map(
    prefix: Path,
    title: str,
    features_MD: np.ndarray,
    labels_M: np.ndarray,
    class_names: Sequence[str],
) -> None:
    """By PCA, and by t-SNE (scikit-learn's), or UMAP where umap-learn is installed."""
    # Here because they take a second, which other figures need not pay.
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    perplexity = min(30, (len(features_MD) - 1) / 3)
    maps = {
        "PCA": PCA(2).fit_transform(features_MD),
        "t-SNE": TSNE(perplexity=perplexity, random_state=0).fit_transform(features_MD),
    }
    if importlib.util.find_spec("umap"):
        umap = importlib.import_module("umap")
        maps["UMAP"] = umap.UMAP(random_state=0).fit_transform(features_MD)
    save(feature_map(maps, labels_M, class_names, title), prefix, "feature_map")


def save_neighbors(
    prefix: Path,
    title: str,
    queries_QHWC: np.ndarray,
    neighbors_QkHWC: np.ndarray,
    same_class_Qk: np.ndarray,
) -> None:
    figure = nearest_neighbors(queries_QHWC, neighbors_QkHWC, same_class_Qk, title)
    save(figure, prefix, "neighbors")


def save(figure: Figure, prefix: Path, kind: str) -> None:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    # Not savefig: it draws a figure with a layout once more, to no effect.
    figure.set_dpi(150)
    FigureCanvasAgg(figure).print_png(prefix.with_name(f"{prefix.name}_{kind}.png"))


def _series(rows, key):
    """(steps, values) of the rows that have `key`."""
    points = [(row["step"], row[key]) for row in rows if key in row]
    return [p[0] for p in points], [p[1] for p in points]
