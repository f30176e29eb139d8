"""Ranges of numbers that stand in the type of a field, such as ``batch_size: Count``; `Config` refuses other values."""

from __future__ import annotations

import math
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True, slots=True)
class Range:
    """Range of one number, or of each number of a list.

    Attributes:
        least: Smallest value.
        most: Largest value.
        above: What every value must be larger than.
        below: What every value must be smaller than.
    """

    least: float | None = None
    most: float | None = None
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        """Return whether a number lies in the range."""
        inside = self.above < value < self.below
        return inside and (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        """Return the range in words.

        Example:
            >>> [str(each) for each in (Range(1), Range(0, 1), Range(0, below=1), Range(above=0, most=2000))]
            ['at least 1', '0 to 1', '0 to below 1', 'above 0 to 2,000']
        """
        start = f"{self.least:,}" if self.least is not None else f"above {self.above:g}"
        if self.most is not None:
            return f"{start} to {self.most:,}"
        if math.isfinite(self.below):
            return f"{start} to below {self.below:g}"
        return f"at least {start}" if self.least is not None else start


@dataclass(frozen=True, slots=True)
class NotBlank:
    """A text with at least one character that is no space.

    Attributes:
        what: What the text says.
    """

    what: str

    def __contains__(self, value: str) -> bool:
        """Return whether there is a text."""
        return bool(value.strip())

    def __str__(self) -> str:
        """Return what is expected, in words."""
        return self.what


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, below=1)]
ShareAboveZero = Annotated[float, Range(above=0, most=1)]
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(0)]
ModelName = Annotated[str, NotBlank("a folder or a hub name")]


def range_of(hint: Any) -> Range | NotBlank | None:
    """Return what a type, given with its annotations, says of a value's range; None where it says nothing."""
    if marks := getattr(hint, "__metadata__", ()):
        return next((mark for mark in marks if isinstance(mark, Range | NotBlank)), None)
    return next((found for part in typing.get_args(hint) if (found := range_of(part)) is not None), None)


def values_in(value: Any) -> Iterator[Any]:
    """Yield a value, or those of a list or of an object at any depth, without None."""
    if isinstance(value, tuple | list | Mapping):
        parts: Iterable[Any] = value.values() if isinstance(value, Mapping) else value
        for part in parts:
            yield from values_in(part)
    elif value is not None:
        yield value
