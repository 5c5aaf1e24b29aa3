"""Colours that colour-blind readers tell apart, and how a figure is written."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito: told apart by colour-blind readers, and on a grey print.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"


PALETTE = (BLUE, ORANGE, GREEN, VERMILLION, "#CC79A7", "#56B4E9", "#F0E442", "#000000")


MARKERS = "ox^+sDv*<>"


def save(figure: Figure, prefix: Path, kind: str) -> None:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    # Not savefig: it draws a figure with a layout once more, to no effect.
    figure.set_dpi(150)
    FigureCanvasAgg(figure).print_png(prefix.with_name(f"{prefix.name}_{kind}.png"))


def _series(rows, key):
    """(steps, values) of the rows that have `key`."""
    points = [(row["step"], row[key]) for row in rows if key in row]
    return [p[0] for p in points], [p[1] for p in points]
