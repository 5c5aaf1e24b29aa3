"""Plots of a page: what is drawn is where its numbers say."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from ssl_jax.report.page import of_run, svg
from ssl_jax.report.page.svg import Bar, Series


def drawn(plot, kind):
    """Elements of a class, of a plot that is XML."""
    return [e for e in ET.fromstring(plot).iter() if kind in e.get("class", "").split()]


def points(path):
    return [[float(x) for x in p.split()] for p in re.split("[ML]", path.get("d"))[1:]]


@pytest.mark.parametrize(
    "low, high, said",
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.87, 0.93, [0.88, 0.9, 0.92]),
        (0, 1_048_576, [0, 250_000, 500_000, 750_000, 1_000_000]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round_and_inside(low, high, said):
    assert svg.ticks(low, high) == pytest.approx(said)


def test_a_line_goes_where_its_values_are_and_has_gaps():
    of = Series("a & <b>", [0, 50, 100, 150, 200], [0.0, 1.0, None, 0.5, 0.5], 1)
    plot = svg.lines([of], alt="<&>", y_range=(0, 1))
    (line,) = drawn(plot, "line")
    assert re.sub("[^ML]", "", line.get("d")) == "MLML"
    (x0, low), (x1, top), (_, middle), (x3, _) = points(line)
    assert low > middle > top and (low + top) / 2 == pytest.approx(middle, abs=0.1)
    assert (x1 - x0) * 4 == pytest.approx(x3 - x0, abs=0.5)
    assert ET.fromstring(plot).get("aria-label") == "<&>"
    assert 0 <= x0 and x3 <= svg.WIDTH


def test_a_band_is_a_deviation_wide():
    of = Series("a", [0, 100], [0.4, 0.6], 0, [0.1, 0.2])
    (band,) = drawn(svg.lines([of], alt="", y_range=(0, 1)), "band")
    (_, a), (_, b), (_, c), (_, d) = points(type(band)("p", {"d": band.get("d")[:-1]}))
    assert c - b == pytest.approx(2 * (d - a), abs=0.3)


def test_a_long_line_is_thinned_and_keeps_its_end():
    of = Series("a", range(10_001), np.linspace(0, 1, 10_001).tolist(), 0)
    (line,) = drawn(svg.lines([of], alt="", y_range=(0, 1)), "line")
    assert len(points(line)) <= 300
    assert points(line)[-1] == pytest.approx([svg.WIDTH - 10, 8], abs=0.1)


@pytest.mark.parametrize("low", [0.0, 0.1, 0.35, 0.55, 0.7, 0.93, 1.0])
def test_an_axis_of_accuracies_begins_at_a_tick(low):
    bottom, top = of_run.accuracies([Series("", [1], [low], 0)])["y_range"]
    assert bottom <= low and top == 1
    assert svg.ticks(bottom, top)[0] == pytest.approx(bottom)


def test_bars_reach_from_their_start_to_the_mean():
    rows = [
        Bar("whole", "90", [0.9]),
        Bar("gain", "80", [0.78, 0.82], start=0.9, kind="gain"),
        Bar("loss", "95", [0.95], start=0.9, kind="loss"),
        Bar("none", "not tried", []),
    ]
    plot = svg.bars(rows, alt="", x_label="x", reference=0.9)
    (gain,), (loss,) = drawn(plot, "gain"), drawn(plot, "loss")
    assert float(gain.get("width")) == pytest.approx(2 * float(loss.get("width")), 0.01)
    end = float(gain.get("x")) + float(gain.get("width"))
    assert end == pytest.approx(float(loss.get("x")), abs=0.2)
    assert len(drawn(plot, "dot")) == 4 and len(drawn(plot, "reference")) == 4
    means = [points(path)[0][0] for path in drawn(plot, "mean")]
    assert means[1] < means[0] < means[2]
    (ends, _, _), dots = drawn(plot, "error"), drawn(plot, "dot")
    (low, _), (high, _) = points(ends)  # 0.80 +- the deviation of 0.78 and 0.82
    apart = float(dots[2].get("cx")) - float(dots[1].get("cx"))
    assert (high - low) / apart == pytest.approx(2**0.5, rel=0.01)
    assert means[1] == pytest.approx(float(gain.get("x")), abs=0.1)


def test_names_that_are_long_have_a_line_of_their_own():
    short, long = Bar("a", "90.00 ± 1.00 (3)", [0.9]), Bar("a" * 50, "", [0.9])
    for rows, lines in (([short], 1), ([short, long], 2)):
        name, number = (
            drawn(svg.bars(rows, alt="", x_label="x"), kind)[0].get("y")
            for kind in ("name", "number")
        )
        assert (name == number) == (lines == 1)


def test_reliability_shows_the_bins_that_have_images():
    count, half = np.array([0, 4, 0, 6]), np.array([np.nan, 0.4, np.nan, 0.9])
    plot = svg.reliability(count, half, half, "said")
    assert len(drawn(plot, "bar")) == len(drawn(plot, "strong")) == 2
    low, high = (float(bar.get("height")) for bar in drawn(plot, "bar"))
    assert high / low == pytest.approx(0.9 / 0.4, rel=0.01)
