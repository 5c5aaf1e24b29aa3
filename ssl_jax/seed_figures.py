"""Many seeds made visible: means, and how far the seeds lie apart."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ssl_jax import figures
from ssl_jax.figures import BLUE, ORANGE, VERMILLION

_LINES = {"train": (BLUE, ":"), "val": (ORANGE, "--"), "test": (VERMILLION, "-")}


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
        for name, (color, style) in _LINES.items():
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
                axes.plot(steps, mean, color=color, linestyle=style, label=name)
                axes.fill_between(steps, mean - std, mean + std, color=color, alpha=0.2)
        axes.set(xlabel="step", ylabel=metric)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    accuracies = [rows[-1].get("test/accuracy") for rows in rows_of]
    if None not in accuracies:
        last.hist(accuracies, bins="auto", color=VERMILLION, alpha=0.7)
    last.set(xlabel="test accuracy at the end", ylabel="seeds")
    return figure


def save_bands(prefix: Path, title: str, rows_of: Sequence[list[dict]]) -> None:
    """Writes `bands` as <prefix>_seeds.png."""
    figures.save(bands(rows_of, title), prefix, "seeds")
