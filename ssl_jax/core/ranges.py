"""What numbers a field may have, said where it is declared: `threshold: Share = 0.95`.

A range is part of the field's annotation. Whoever takes values from a user asks
`mistakes` before they are used; what is built directly is trusted.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`: neither NaN nor infinity is in any range."""

    low: float
    high: float = math.inf
    without: str = ""  # "low" or "high": that bound itself; or "low and high"

    def has(self, value: float) -> bool:
        from_low = value > self.low or (value == self.low and "low" not in self.without)
        to_high = value < self.high or (
            value == self.high and "high" not in self.without
        )
        return math.isfinite(value) and from_low and to_high

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'above' if 'low' in self.without else 'at least'} {self.low:,}"
        left = "(" if "low" in self.without else "["
        right = ")" if "high" in self.without else "]"
        return f"in {left}{self.low:,}, {self.high:,}{right}"


class NotEmpty:
    """Of a tuple: it has one value or more."""


Share = Annotated[float, Range(0, 1)]  # a part, or a probability
Decay = Annotated[float, Range(0, 1, without="high")]  # at 1 an average never moves
Rate = Annotated[float, Range(0, 1, without="high")]  # of what is dropped: never all
Weight = Annotated[float, Range(0)]  # 0: without what it weighs
Positive = Annotated[float, Range(0, without="low")]
GreyLevel = Annotated[float, Range(0, 255)]
Count = Annotated[int, Range(1)]
Seed = Annotated[int, Range(0, 2**32 - 1)]  # of a larger one JAX drops the upper bits
Whole = Annotated[int, Range(0)]  # 0 is what the comment of the field says
Each = TypeVar("Each")
Some = Annotated[tuple[Each, ...], NotEmpty()]  # Some[Count]: one count or more


def of(declared: type | Callable) -> dict[str, Any]:
    """The annotations of a class's fields or of a function's keywords, by name."""
    return get_type_hints(declared, include_extras=True)


def mistakes(
    declared: type | Callable, values: Mapping[str, Any], at: str = ""
) -> Iterator[str]:
    """A message for each of `values` that its field may not have.

    Args:
      declared: the class or function that has the fields.
      values: by field; of one that is not declared nothing is said.
      at: the section of the configuration that they stand in, "train.algorithm".
    """
    hints = of(declared)
    for name, value in values.items():
        if said := _mistake(hints.get(name), value):
            yield f"{at}{'.' if at else ''}{name}={value!r}{said}."


def undeclared(declared: type | Callable, names: Iterable[str]) -> list[str]:
    """Those of the fields `names` that are numbers, or hold some, without a range."""
    hints = of(declared)
    return [name for name in names if _is_bare(hints[name])]


def _mistake(hint, value):
    """What is wrong with `value`, behind its name in a sentence; "" if nothing is."""
    kind, *said = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if get_origin(kind) is tuple:
        return _mistake_in_tuple(kind, said, value)
    for allowed in said:
        whole = issubclass(kind, int)
        number = Integral if whole else Real
        if isinstance(value, bool) or not isinstance(value, number):
            return f" must be a {'whole ' if whole else ''}number {allowed}"
        if not allowed.has(value):
            finite = "" if math.isfinite(value) else "a finite number "
            return f" must be {finite}{allowed}"
    return ""


def _mistake_in_tuple(kind, said, values):
    each = get_args(kind)
    if each[-1] is Ellipsis:
        each = (each[0],) * len(values)
    if len(values) != len(each):
        return f" must have {len(each)} values"
    if said and not values:
        return " must have one value or more"
    for hint, value in zip(each, values, strict=True):
        if mistake := _mistake(hint, value):
            return f": {value!r}{mistake}"
    return ""


def _is_bare(hint):
    kind, *said = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if get_origin(kind) is tuple:
        return any(_is_bare(each) for each in get_args(kind))
    return kind in (int, float) and not said
