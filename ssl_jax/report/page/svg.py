"""Plots as SVG that a page holds: text stays text, and colours are the page's, light or
dark (page.css).

All are `WIDTH` wide, what a telephone shows without shrinking them. A plot is told from
another by dashes and marks as well as by colour.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape

WIDTH = 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 8, 34  # margins, where axes are written
_POINTS = 300  # of a line: more are not seen
LINES = 6  # that can be told apart


class Series(NamedTuple):
    """A line."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]  # None: a gap
    style: int  # 0 to LINES - 1: colour, dashes and mark
    spread: Sequence[float] = ()  # of ys: drawn as a band around it


class Bar(NamedTuple):
    """A row of `bars`: values that belong together, and their mean."""

    name: str
    said: str  # beside the name: the numbers
    values: Sequence[float]
    start: float | None = None  # a bar from here to the mean; None: no bar
    kind: str = "plain"  # "plain", "gain" or "loss": its colour


def percent(value: float) -> str:
    return f"{100 * value:g}%"


def plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def steps(value: float) -> str:
    """10,000 as 10k, so that a million has room."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about so many."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]


def lines(
    series: Sequence[Series],
    *,
    alt: str,
    x_label: str = "step",
    y_range: tuple[float, float] | None = None,
    y_said: Callable[[float], str] = plain,
    height: int = 220,
) -> Markup:
    """Values against steps. What they are, the caption says."""
    series = [_thinned(each) for each in series if len(each.xs)]
    ys = [y for each in series for y in _ends(each) if y is not None]
    xs = [x for each in series for x in each.xs]
    low, high = y_range or _range(ys)
    right = max(xs, default=1)
    left = min(0.0, min(xs, default=0))
    frame = _Frame(left, max(right, left + 1), low, high, height)
    drawn = [frame.axes(x_label, "", steps, y_said)]
    for each in series:
        drawn.append(frame.line(each))
    return _svg(height, alt, drawn)


def bars(
    rows: Sequence[Bar],
    *,
    alt: str,
    x_label: str,
    x_said: Callable[[float], str] = percent,
    reference: float | None = None,
) -> Markup:
    """A row for each: its name and numbers above, below them a dot for each value, the
    mean and the standard deviation; and a bar from `start` where it has one.

    Args:
      reference: a value that a line is drawn at, through all rows.
    """
    # Names and numbers share a line where all of them fit.
    apart = 0 if all(map(_fits, rows)) else 15
    each, top, bottom = 40 + apart, 4, 34
    ends = [v for row in rows for v in _extent(row)]
    ends += [] if reference is None else [reference]
    low, high = _padded(min(ends), max(ends))
    height = top + each * len(rows) + bottom
    inner = WIDTH - 24

    def at(value):
        return 12 + inner * (value - low) / (high - low)

    marks = ticks(low, high, 4)
    foot = height - bottom
    drawn = []
    for mark in marks:
        drawn.append(_line(at(mark), foot, at(mark), foot + 4, "axis"))
        drawn.append(_text(at(mark), foot + 16, x_said(mark), "middle"))
    drawn.append(_text(WIDTH / 2, height - 3, x_label, "middle"))
    drawn.append(_line(12, foot, WIDTH - 12, foot, "axis"))
    for i, row in enumerate(rows):
        y = top + each * i
        middle = y + 28 + apart
        drawn.append(_text(12, y + 13, row.name, "start", "name"))
        drawn.append(_text(WIDTH - 12, y + 13 + apart, row.said, "end", "number"))
        drawn += [_line(at(x), middle - 10, at(x), middle + 10, "grid") for x in marks]
        if reference is not None:
            x = at(reference)
            drawn.append(_line(x, middle - 10, x, middle + 10, "reference"))
        if not len(row.values):
            continue
        mean = float(np.mean(row.values))
        if row.start is not None:
            a, b = sorted((at(row.start), at(mean)))
            wide = max(b - a, 1)
            drawn.append(
                f'<rect class="bar {row.kind}" x="{a:.1f}" y="{middle - 7}" '
                f'width="{wide:.1f}" height="14"/>'
            )
        if len(row.values) > 1:
            std = float(np.std(row.values, ddof=1))
            a, b = at(mean - std), at(mean + std)
            drawn.append(_line(a, middle, b, middle, "error"))
            drawn += [_line(x, middle - 5, x, middle + 5, "error") for x in (a, b)]
        drawn.append(_line(at(mean), middle - 8, at(mean), middle + 8, "mean"))
        drawn += [
            f'<circle class="dot" cx="{at(v):.1f}" cy="{middle}" r="3"/>'
            for v in row.values
        ]
    return _svg(height, alt, drawn)


def reliability(
    count_M: np.ndarray, confidence_M: np.ndarray, accuracy_M: np.ndarray, alt: str
) -> Markup:
    """Accuracy by confidence: a bar for each bin that has images, its mean confidence
    as a dot; below the diagonal is too sure."""
    height, M = 240, len(count_M)
    frame = _Frame(0, 1, 0, 1, height)
    drawn = [frame.axes("confidence", "share right", percent, percent)]
    for m in np.flatnonzero(count_M):
        x, y = frame.x(m / M), frame.y(accuracy_M[m])
        drawn.append(
            f'<rect class="bar plain" x="{x:.1f}" y="{y:.1f}" '
            f'width="{frame.x((m + 1) / M) - x:.1f}" '
            f'height="{max(frame.y(0) - y, 0):.1f}"/>'
        )
    drawn.append(_line(*frame.at(0, 0), *frame.at(1, 1), "reference"))
    for m in np.flatnonzero(count_M):
        x, y = frame.at(confidence_M[m], accuracy_M[m])
        drawn.append(f'<circle class="dot strong" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
    return _svg(height, alt, drawn)


def swatch(style: int) -> Markup:
    """A line's look, for a legend."""
    drawn = f'<path class="line s{style}" d="M1 6H31"/>{_mark(style, 16, 6)}'
    return Markup(
        f'<svg class="swatch" viewBox="0 0 32 12" aria-hidden="true">{drawn}</svg>'
    )


class _Frame(NamedTuple):
    """A rectangle of data on the paper."""

    left: float
    right: float
    low: float
    high: float
    height: int

    def x(self, value):
        share = (value - self.left) / (self.right - self.left)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, value):
        share = (value - self.low) / (self.high - self.low)
        inner = self.height - _TOP - _BOTTOM
        return _TOP + (1 - min(max(share, -0.02), 1.02)) * inner

    def at(self, x, y):
        return self.x(x), self.y(y)

    def axes(self, x_label, y_label, x_said, y_said):
        foot, drawn = self.height - _BOTTOM, []
        for mark in ticks(self.low, self.high):
            y = self.y(mark)
            drawn.append(_line(_LEFT, y, WIDTH - _RIGHT, y, "grid"))
            drawn.append(_text(_LEFT - 5, y + 4, y_said(mark), "end"))
        for mark in ticks(self.left, self.right):
            x = self.x(mark)
            drawn.append(_line(x, foot, x, foot + 4, "axis"))
            anchor = "end" if x > WIDTH - _RIGHT - 12 else "middle"
            x = min(x, WIDTH - 1) if anchor == "middle" else WIDTH - 2
            drawn.append(_text(x, foot + 16, x_said(mark), anchor))
        drawn.append(_line(_LEFT, foot, WIDTH - _RIGHT, foot, "axis"))
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        drawn.append(_text(middle, self.height - 3, x_label, "middle"))
        if y_label:
            y = (_TOP + foot) / 2
            drawn.append(
                f'<text transform="translate(9 {y:.1f}) rotate(-90)" '
                f'text-anchor="middle">{escape(y_label)}</text>'
            )
        return "".join(drawn)

    def line(self, series):
        points, parts, pen = [], [], "M"
        for x, y in zip(series.xs, series.ys, strict=True):
            if y is None:
                pen = "M"
                continue
            px, py = self.at(x, y)
            parts.append(f"{pen}{px:.1f} {py:.1f}")
            points.append((px, py))
            pen = "L"
        drawn = [f'<path class="line s{series.style}" d="{"".join(parts)}"/>']
        if len(series.spread):
            drawn.insert(0, self._band(series))
        every = max(1, len(points) // 8)
        drawn += [_mark(series.style, *point) for point in points[::every]]
        return "".join(drawn)

    def _band(self, series):
        rows = zip(series.xs, series.ys, series.spread, strict=True)
        rows = [row for row in rows if row[1] is not None]
        above = [self.at(x, y + s) for x, y, s in rows]
        below = [self.at(x, y - s) for x, y, s in reversed(rows)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in above + below)
        return f'<path class="band s{series.style}" d="M{path}Z"/>'


def _mark(style, x, y):
    """Six that differ in form as well."""
    if style % LINES == 0:
        return f'<circle class="mark s0" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>'
    paths = {
        1: "m-3-3h6v6h-6z",
        2: "m0-3.6l3.6 6.2h-7.2z",
        3: "m0-4l4 4l-4 4l-4-4z",
        4: "m-3-3l6 6m0-6l-6 6",
        5: "m0-4v8m-4-4h8",
    }
    style %= LINES
    return f'<path class="mark s{style}" d="M{x:.1f} {y:.1f}{paths[style]}"/>'


def _svg(height, alt, drawn):
    said = escape(alt)
    return Markup(
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{said}">{"".join(drawn)}</svg>'
    )


def _line(x1, y1, x2, y2, kind):
    return f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def _text(x, y, said, anchor, kind=""):
    of_kind = f' class="{kind}"' if kind else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{of_kind}>'
        f"{escape(said)}</text>"
    )


def _thinned(series):
    """With points that are seen: the last, and so many before it."""
    every = -(-len(series.xs) // _POINTS)
    if every < 2:
        return series
    spread = series.spread[::-1][::every][::-1] if len(series.spread) else ()
    xs, ys = (of[::-1][::every][::-1] for of in (series.xs, series.ys))
    return series._replace(xs=xs, ys=ys, spread=spread)


def _ends(series):
    if not len(series.spread):
        return series.ys
    both = [(y, s) for y, s in zip(series.ys, series.spread, strict=True)]
    return [y + sign * s for y, s in both if y is not None for sign in (-1, 1)]


def _fits(row):
    """Whether name and numbers have room beside each other, by the width of letters."""
    return 7.4 * len(row.name) + 6.6 * len(row.said) < WIDTH - 34


def _extent(row):
    if not len(row.values):
        return []
    mean = float(np.mean(row.values))
    std = float(np.std(row.values, ddof=1)) if len(row.values) > 1 else 0.0
    start = [] if row.start is None else [row.start]
    return [*row.values, mean - std, mean + std, *start]


def _range(values):
    """From 0 to above all of them; below 0 where some are."""
    values = [value for value in values if math.isfinite(value)]
    low, high = min([0.0, *values]), max(values, default=1.0)
    high = high if high > low else low + 1
    return low, high + 0.04 * (high - low)


def _padded(low, high):
    """With room at both ends, and never nothing between them."""
    room = max(0.06 * (high - low), 0.002)
    return low - room, high + room
