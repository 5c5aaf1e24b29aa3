"""Ranges: which numbers a field may have, and what is said of others."""

import math
from typing import Annotated

import pytest

from ssl_jax.core import ranges
from ssl_jax.core.ranges import (
    Count,
    Decay,
    Positive,
    Range,
    Share,
    Some,
    Weight,
    Whole,
)


def declared(
    *,
    share: Share = 0.5,
    decay: Decay = 0.5,
    weight: Weight = 1.0,
    positive: Positive = 1.0,
    count: Count = 1,
    whole: Whole = 0,
    between: Annotated[float, Range(-1, 1, without="low and high")] = 0.0,
    some: Some[Count] = (1,),
    pair: tuple[Share, Share] = (0.0, 1.0),
    widths: tuple[Count, ...] = (),
    name: str = "",
    flag: bool = False,
    bare: float = 1.0,
    bare_pair: tuple[int, int] = (1, 2),
    bare_some: Some[float] = (1.0,),
):
    """A function with a field of each kind."""


@pytest.mark.parametrize(
    "field, value",
    [
        *(("share", 0), ("share", 1.0), ("decay", 0.0), ("decay", 0.9999)),
        *(("weight", 0.0), ("weight", 1e30), ("positive", 1e-30), ("count", 1)),
        *(("whole", 0), ("between", 0.99), ("some", (3,)), ("pair", (0.0, 1.0))),
        *(("widths", ()), ("widths", [8, 8]), ("name", "x"), ("bare", -1.0)),
        ("another", math.nan),
    ],
)
def test_what_is_in_its_range_is_not_mentioned(field, value):
    assert list(ranges.mistakes(declared, {field: value}, "at")) == []


@pytest.mark.parametrize(
    "field, value, said",
    [
        ("share", 95, "share=95 must be in [0, 1]."),
        ("share", -0.1, "share=-0.1 must be in [0, 1]."),
        ("share", math.nan, "share=nan must be a finite number in [0, 1]."),
        ("share", True, "share=True must be a number in [0, 1]."),
        ("decay", 1.0, "decay=1.0 must be in [0, 1)."),
        ("weight", -1.0, "weight=-1.0 must be at least 0."),
        ("weight", math.inf, "weight=inf must be a finite number at least 0."),
        ("positive", 0.0, "positive=0.0 must be above 0."),
        ("count", 0, "count=0 must be at least 1."),
        ("count", 2.5, "count=2.5 must be a whole number at least 1."),
        ("whole", -1, "whole=-1 must be at least 0."),
        ("between", 1.0, "between=1.0 must be in (-1, 1)."),
        ("some", (), "some=() must have one value or more."),
        ("some", (3, 0), "some=(3, 0): 0 must be at least 1."),
        ("pair", (0.5,), "pair=(0.5,) must have 2 values."),
        ("pair", (0.5, 1.5), "pair=(0.5, 1.5): 1.5 must be in [0, 1]."),
        ("widths", (8, -8), "widths=(8, -8): -8 must be at least 1."),
    ],
)
def test_what_is_not_is_told_with_the_range_and_its_place(field, value, said):
    values = {field: value, "name": "x"}
    assert list(ranges.mistakes(declared, values, "train.x")) == [f"train.x.{said}"]
    assert list(ranges.mistakes(declared, values)) == [said]


def test_a_number_without_a_range_is_found():
    fields = ranges.of(declared)
    assert ranges.undeclared(declared, fields) == ["bare", "bare_pair", "bare_some"]
