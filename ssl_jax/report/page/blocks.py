"""What a page is made of: values that page.html writes, each kind in its own way."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from ssl_jax.report.page import svg

_SIDE = 96  # pixels of a picture's longer side at most


class Table(NamedTuple):
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    folded: str = ""  # what stands in its place until it is opened; "": it is open
    wraps: bool = False  # its cells are text, over several lines where they are long
    kind: str = "table"


class Plot(NamedTuple):
    caption: str
    svg: Markup
    legend: Sequence[tuple[Markup, str]] = ()  # (swatch, name and number)
    numbers: Table | None = None  # behind it, folded
    kind: str = "plot"


class Plots(NamedTuple):
    """Side by side where there is room."""

    plots: Sequence[Plot]
    kind: str = "plots"


class Note(NamedTuple):
    text: str
    kind: str = "note"


class Missing(NamedTuple):
    """What the page would show if the workdir had it."""

    text: str
    kind: str = "missing"


class Tile(NamedTuple):
    label: str
    value: str
    under: str = ""


class Tiles(NamedTuple):
    tiles: Sequence[Tile]
    kind: str = "tiles"


class Matrix(NamedTuple):
    """Counts of truth by rows and prediction by columns."""

    names: Sequence[str]
    rows: Sequence[Sequence[tuple[int, int]]]  # (count, % of the true class, 0 to 100)
    caption: str
    kind: str = "matrix"


class Picture(NamedTuple):
    source: str  # data URI
    alt: str
    lines: Sequence[str]


class Pictures(NamedTuple):
    caption: str
    pictures: Sequence[Picture]
    small: bool = False  # of so few pixels that they are shown as squares
    kind: str = "pictures"


class Beside(NamedTuple):
    """Blocks beside each other where there is room."""

    blocks: Sequence
    kind: str = "beside"


class Code(NamedTuple):
    text: str
    kind: str = "code"


class Section(NamedTuple):
    title: str
    blocks: Sequence


class Folded(NamedTuple):
    """Sections behind their title."""

    title: str
    under: str
    sections: Sequence[Section]
    kind: str = "folded"


def image(image_HWC: np.ndarray) -> str:
    """A uint8 image as a data URI, brought to 96 pixels where it is larger, and then
    as it is, pixel by pixel: 32x32 photographs take a fifth less as WebP than as PNG,
    and pictures are most of a page's bytes."""
    from PIL import Image, features  # not for every start of ssl_jax.report

    how = {"format": "PNG", "optimize": True}
    if features.check("webp"):  # which a Pillow built without it has not
        how = {"format": "WEBP", "lossless": True}
    shown = Image.fromarray(image_HWC.squeeze())
    shown.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    shown.save(file, **how)
    kind = how["format"].lower()
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def curves(
    caption: str, series: Sequence[svg.Series], said=lambda y: f"{y:.4g}", **axes
) -> Plot:
    """Lines, their legend with what each comes to, and some of their numbers."""
    series = [each for each in series if len(each.xs)]
    legend, alt = [], []
    for each in series:
        last = next((y for y in reversed(each.ys) if y is not None), None)
        number = "no number" if last is None else said(last)
        legend.append((svg.swatch(each.style), f"{each.name} {number}"))
        alt.append(f"{each.name} ends at {number}")
    drawn = svg.lines(series, alt=f"{caption}: {'; '.join(alt)}.", **axes)
    return Plot(caption, drawn, legend, _numbers(series, said))


def _numbers(series, said, count=12):
    """A table of about so many of the steps, the last among them."""
    values = {each.name: dict(zip(each.xs, each.ys, strict=True)) for each in series}
    steps = sorted({x for of in values.values() for x in of})
    steps = steps[::-1][:: -(-len(steps) // count) or 1][::-1]
    rows = [
        [f"{step:,}"]
        + ["" if (y := of.get(step)) is None else said(y) for of in values.values()]
        for step in steps
    ]
    return Table(["step", *values], rows, folded="its numbers")
