"""Active learning made visible: what was asked, and what the answers brought."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ssl_jax.report.figures import curves
from ssl_jax.report.figures.drawing import (
    BLUE,
    VERMILLION,
    entitle,
    short,
    styles,
    whole_numbers,
)

_COLUMNS, _SHEET = 8, 48  # images in a row and on a sheet of questions
_SHOWN = 10  # images in a row of `rounds_grid`
_LETTERS = 18  # of an image's name that fit above it


def question_sheet(
    images: Sequence[np.ndarray], rows: Sequence[dict[str, str]], title: str
) -> Figure:
    """The images asked about, each under its name, with what the model takes it for,
    if it classifies.

    Args:
      images: uint8 image_HWC of each, of whatever size.
      rows: of queries.csv: image, predicted and probability of each.
    """
    columns = min(_COLUMNS, max(4, len(rows)))
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(1.7 * columns, 2.05 * lines + 0.5), layout="constrained")
    entitle(figure, title)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image_HWC, row in zip(grid, images, rows, strict=False):
        axes.imshow(image_HWC.squeeze(), cmap="gray", vmin=0, vmax=255)
        said = ""
        if row["predicted"]:
            predicted = short(row["predicted"], _LETTERS - 5)
            said = f"\n{predicted}? {float(row['probability']):.2f}"
        axes.set_title(f"{_ending(row['image'])}{said}", fontsize=8)
    return figure


def rounds_grid(
    rounds: Sequence[dict],
    images: Sequence[Sequence[np.ndarray]],
    title: str,
) -> Figure:
    """scikit-learn's figure: a row for each round that asked, with the images that it
    asked about, predicted and true class; wrong predictions in red and bold.

    Args:
      rounds: entries of result.json.
      images: image_HWC of each of the questions of each round.
    """
    asked = [entry for entry in rounds if entry["queried"]]
    columns = min(_SHOWN, max(len(entry["queried"]) for entry in asked))
    figure = Figure(
        figsize=(2.3 + 1.25 * columns, 1.75 * len(asked) + 0.6), layout="constrained"
    )
    entitle(figure, title)
    grid = figure.subplots(len(asked), columns, squeeze=False)
    for r, (axes_row, entry) in enumerate(zip(grid, asked, strict=True), start=1):
        more = len(entry["queried"]) - columns
        axes_row[0].annotate(
            f"round {r}: model fitted\nwith {entry['labels']:,} labels\n"
            f"accuracy {entry['accuracy']:.1%}"
            + (f"\n{more} more asked" if more > 0 else ""),
            xy=(-0.2, 0.5),
            xycoords="axes fraction",
            ha="right",
            va="center",
        )
        for axes in axes_row:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for axes, image_HWC, row in zip(
            axes_row, images[r - 1], entry["queried"], strict=False
        ):
            axes.imshow(image_HWC.squeeze(), cmap="gray", vmin=0, vmax=255)
            wrong = row["predicted"] != row["label"]
            axes.set_title(
                f"predict: {_class(row['predicted'])}\ntrue: {_class(row['label'])}",
                fontsize=9,
                color=VERMILLION if wrong else "black",
                fontweight="bold" if wrong else "normal",
            )
    wrong = Patch(color=VERMILLION, label="red and bold: the prediction is wrong")
    figure.legend(handles=[wrong], loc="outside lower center")
    return figure


def learning_curve(rounds: Sequence[dict], title: str) -> Figure:
    """Accuracy against labels, on what is still unlabeled and on the test images."""
    curves = {"images still unlabeled": [entry["accuracy"] for entry in rounds]}
    if all("accuracy" in entry["test"] for entry in rounds):
        curves["test images"] = [entry["test"]["accuracy"] for entry in rounds]
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    axes = figure.subplots()
    labels = [entry["labels"] for entry in rounds]
    for (name, values), color, style in zip(
        curves.items(), (BLUE, VERMILLION), ("o-", "s--"), strict=False
    ):
        axes.plot(labels, values, style, color=color, label=name)
    axes.set(xlabel="labels", ylabel="accuracy")
    whole_numbers(axes)
    entitle(figure, title)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def strategy_curves(
    curves: dict[str, dict[str, np.ndarray]], labels_R: Sequence[int], title: str
) -> Figure:
    """Mean and standard deviation over seeds, a panel for each kind of accuracy.

    Args:
      curves: kind -> strategy -> accuracy_SR, of seeds and rounds.
    """
    figure = Figure(figsize=(5 * len(curves), 4.2), layout="constrained")
    entitle(figure, title)
    grid = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axes, (kind, of_kind) in zip(grid, curves.items(), strict=True):
        for (strategy, accuracy_SR), style in zip(
            of_kind.items(), styles(len(of_kind)), strict=True
        ):
            mean_R = accuracy_SR.mean(axis=0)
            axes.plot(labels_R, mean_R, label=strategy, **style)
            if len(accuracy_SR) > 1:
                std_R = accuracy_SR.std(axis=0, ddof=1)
                around = dict(color=style["color"], alpha=0.15)
                axes.fill_between(labels_R, mean_R - std_R, mean_R + std_R, **around)
        axes.set(xlabel="labels", ylabel="accuracy", title=kind, xticks=labels_R)
        axes.grid(alpha=0.3)
    grid[0].legend()
    return figure


def question_sheets(
    images_of: Callable[[slice], Sequence[np.ndarray]],
    rows: Sequence[dict[str, str]],
    title: str,
) -> list[Callable[[], Figure]]:
    """All questions, on as many sheets as they need, each drawn when it is called.

    Args:
      images_of: reads the images of a sheet.
    """

    def sheet(part):
        return question_sheet(images_of(part), rows[part], title)

    parts = [slice(at, at + _SHEET) for at in range(0, len(rows), _SHEET)]
    return [partial(sheet, part) for part in parts]


def of_simulation(
    title: str,
    rounds: Sequence[dict],
    images: Sequence[Sequence[np.ndarray]],
    class_names: Sequence[str],
) -> dict[str, Callable[[], Figure]]:
    """What a simulation can show, by kind.

    Args:
      images: image_HWC of those asked about in each round.
    """
    counts_KK = np.array(rounds[-1]["confusion"])
    still = "images still unlabeled after the last round"
    figures = {
        "learning_curve": partial(learning_curve, rounds, title),
        "confusion_matrix": partial(
            curves.confusion_matrix, counts_KK, class_names, title, still
        ),
    }
    if len(rounds) > 1:
        figures["rounds"] = partial(rounds_grid, rounds, images, title)
    return figures


def _class(name):
    """A class, beside which stands what it is."""
    return short(name, _LETTERS - 6)


def _ending(text):
    """The end of a long name, which tells files of one folder apart."""
    return text if len(text) <= _LETTERS else f"…{text[1 - _LETTERS :]}"
