"""Runs made visible: figures of a phase, and tables of mean +- std over seeds."""

import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

# Okabe and Ito: told apart by colour-blind readers, and on a grey print.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
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
        axes.legend()
    return figure


def pseudo_label_quality(rows: list[dict], title: str) -> Figure:
    """Share of pseudo-labels kept, and share right among the kept, against steps."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    for metric, label, color, style in (
        ("train/share_kept", "kept, of all", BLUE, "-"),
        ("train/kept_accuracy", "right, of the kept", VERMILLION, "--"),
    ):
        axes.plot(*_series(rows, metric), label=label, color=color, linestyle=style)
    axes.set(xlabel="step", ylabel="share of pseudo-labels", ylim=(-0.02, 1.02))
    axes.set_title(title)
    axes.grid(alpha=0.3)
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


def views_grid(views: dict[str, np.ndarray], title: str) -> Figure:
    """A row of images for each view; uint8 images_NHWC, C = 1 or 3."""
    count = min(10, *(len(images) for images in views.values()))
    size = (1.1 * count + 0.8, 1.15 * len(views) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(views), count, squeeze=False)
    for axes_row, (name, images) in zip(grid, views.items(), strict=True):
        axes_row[0].set_ylabel(name)
        for axes, image_HWC in zip(axes_row, images, strict=False):
            axes.imshow(image_HWC.squeeze(), cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
    return figure


def save_views(prefix: Path, title: str, views: dict[str, np.ndarray]) -> None:
    save(views_grid(views, f"{title}: what the model sees"), prefix, "views")


def save_figures(
    prefix: Path,
    title: str,
    rows: list[dict],
    counts_KK: np.ndarray,
    class_names: Sequence[str],
) -> None:
    """Writes what a trained phase can show as <prefix>_*.png."""
    figures = {
        "learning_curves": learning_curves(rows, title),
        "confusion_matrix": confusion_matrix(
            counts_KK, class_names, f"{title}: test images"
        ),
    }
    if any("train/share_kept" in row for row in rows):
        figures["pseudo_labels"] = pseudo_label_quality(rows, title)
    for kind, figure in figures.items():
        save(figure, prefix, kind)


def save(figure: Figure, prefix: Path, kind: str) -> None:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(prefix.with_name(f"{prefix.name}_{kind}.png"), dpi=150)


def summary(result: dict) -> str:
    """The run in a few lines, for the terminal."""
    lines = []
    for name, phase in result["phases"].items():
        test = phase["test"]
        lines.append(
            f"{name}: {phase['algorithm']}, {phase['steps']} steps in "
            f"{phase['seconds']:.0f} s (+ {phase['compile_seconds']:.0f} s compiling), "
            f"test accuracy {test['accuracy']:.2%} "
            f"(median of last 20: {test['accuracy_median20']:.2%})"
        )
    return "\n".join(lines)


def mean_std(values: Iterable[float], scale: float = 100) -> str:
    """ "4.52 +- 0.31 (5)": mean, sample standard deviation, number of seeds."""
    values = [scale * value for value in values]
    std = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{std} ({len(values)})"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def into_readme(name: str, text: str) -> None:
    """Puts `text` between the markers of `name` in README.md.

    Raises:
      ValueError: it has none, or several.
    """
    readme = Path("README.md")
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
    filled, count = re.subn(
        pattern, lambda m: f"{m[1]}{text}\n{m[2]}", readme.read_text(), flags=re.S
    )
    if count != 1:
        raise ValueError(f"README.md has {count} places for {name}, not one.")
    readme.write_text(filled)


def _series(rows, key):
    """(steps, values) of the rows that have `key`."""
    points = [(row["step"], row[key]) for row in rows if key in row]
    return [p[0] for p in points], [p[1] for p in points]
