"""What the figures share: ways of drawing lines that readers tell apart, axes of steps,
and titles that fit."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's, told apart by colour-blind readers and on a grey print; without their
# yellow, which is hardly seen on white.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY = "#56B4E9"
PALETTE = (BLUE, ORANGE, GREEN, VERMILLION, "#CC79A7", SKY, "#000000")
MARKERS = "ox^+sDv*<>"
MANY = 20  # classes: more have no names in a figure
_DASHES = ("-", "--", "-.", ":")
_FEW = 25  # points of a line that are marked: of one alone there is no line
_LETTERS = 24  # of a name beside others


def styles(count: int) -> list[dict]:
    """Keywords of `plot` for so many lines, of which no two up to 140 are alike: seven
    colours, ten markers, four dashes."""
    return [
        dict(
            color=PALETTE[k % len(PALETTE)],
            marker=MARKERS[k % len(MARKERS)],
            linestyle=_DASHES[k % len(_DASHES)],
        )
        for k in range(count)
    ]


def line(axes: Axes, steps: Sequence[int], values: Sequence, **style) -> None:
    """A line, with its points where they are few."""
    points = dict(marker="o", markersize=3) if len(steps) <= _FEW else {}
    axes.plot(steps, values, **{**points, **style})


def of_steps(axes: Axes, ylabel: str) -> None:
    """Makes them axes of something against steps, of which there are whole ones."""
    axes.set(xlabel="step", ylabel=ylabel)
    whole_numbers(axes)
    axes.grid(alpha=0.3)


def whole_numbers(axes: Axes) -> None:
    """On the horizontal axis, with few enough ticks that a million fits."""
    round_ones = MaxNLocator(nbins=5, integer=True, steps=(1, 2, 2.5, 5, 10))
    axes.xaxis.set_major_locator(round_ones)
    axes.xaxis.set_major_formatter("{x:,.0f}")


def from_zero(axes: Axes) -> None:
    """Makes the vertical axis begin at 0, or a hair below, so that what is 0 is seen,
    and end above all that is drawn."""
    top = 1.08 * axes.dataLim.y1
    top = top if 0 < top < np.inf else 1
    axes.set_ylim(-0.02 * top, top)


def entitle(figure: Figure, title: str) -> None:
    """Gives the figure its title, in as many lines as its width asks for."""
    figure.suptitle(wrapped(title, figure.get_figwidth()))


def wrapped(title: str, inches: float) -> str:
    """The title in lines that fit, at matplotlib's size of titles."""
    letters = max(16, int(11 * inches))
    lines = (textwrap.fill(line, letters) for line in title.splitlines())
    return "\n".join(lines)


def short(name: str, letters: int = _LETTERS) -> str:
    """The name, or its beginning and its end, by which names of many differ."""
    if len(name) <= letters:
        return name
    head = letters // 2
    return f"{name[:head]}…{name[len(name) - (letters - head - 1) :]}"
