"""A range in the type of a field is kept by every value of the field, and is said in words where it is not."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

import infinity
from infinity.config import Config, ConfigError, _ranges
from infinity.ranges import Count, ModelName, NotBlank, Positive, Range, Share, ShareAboveZero, ShareBelowOne, values_in


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranged(Config):
    number: Count = 1
    share: Share | None = None
    shares: tuple[ShareBelowOne, ...] = ()
    pairs: tuple[tuple[Annotated[int, Range(1, 5000)], ...], ...] = ()
    named: dict[str, Positive] | None = None
    either: ShareAboveZero | tuple[ShareAboveZero, ...] = 1.0
    model: ModelName = "model"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked(Ranged):
    """Its own checks come after the ranges, as they do after NaN."""

    number: Count = 2

    def __post_init__(self) -> None:
        assert 1 / self.number <= 1


@pytest.mark.parametrize("kind", [Ranged, Checked])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": 0}, "number: expected at least 1, got 0"),
        ({"number": -12345}, "number: expected at least 1, got -12,345"),
        ({"share": 1.5}, r"share: expected 0 to 1 or None, got 1\.5"),
        ({"share": -1e-9}, "share: expected 0 to 1 or None, got -1e-09"),
        ({"shares": [0.5, 1.0]}, r"shares: expected 0 to below 1, got \(0\.5, 1\.0\)"),
        ({"pairs": [[1, 2], [5001]]}, r"pairs: expected 1 to 5,000, got \(\(1, 2\), \(5001,\)\)"),
        ({"named": {"a": 1.0, "b": 0.0}}, "named: expected above 0 or None, got"),
        ({"either": 0.0}, r"either: expected above 0 to 1, got 0\.0"),
        ({"either": [1.0, 2.0]}, r"either: expected above 0 to 1, got \(1\.0, 2\.0\)"),
        ({"model": " "}, "model: expected a folder or a hub name, got ' '"),
    ],
)
def test_a_value_outside_of_its_range_is_named_with_field_range_and_value(
    kind: type[Ranged], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^file: {kind.__name__}\.{message}"):
        kind.from_json(change, where="file")


def test_values_at_the_ends_of_their_ranges_are_kept() -> None:
    ends = {"number": 1, "share": 1.0, "shares": [0.0], "pairs": [[1, 5000]], "either": 1.0, "named": {"a": 1e-300}}
    assert Ranged.from_json(ends).to_json() == {**ends, "model": "model"}
    assert Ranged(share=None, named=None).share is None


def test_nan_is_refused_before_any_range_is_looked_at() -> None:
    with pytest.raises(ConfigError, match="expected finite numbers, got nan"):
        Ranged(share=math.nan)


def test_values_are_found_at_any_depth() -> None:
    assert list(values_in(((1, (2, None)), {"a": [3], "b": "x"}, None))) == [1, 2, 3, "x"]


def _kinds(kind: type[Config]) -> Iterator[type[Config]]:
    for each in kind.__subclasses__():
        yield each
        yield from _kinds(each)


def test_every_default_lies_in_its_range_and_no_range_is_empty() -> None:
    """Of every configuration of the package."""
    for module in pkgutil.walk_packages(infinity.__path__, "infinity."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    ranges = {(kind, name): found for kind in set(_kinds(Config)) for name, (found, _) in _ranges(kind).items()}
    assert len({kind for kind, _ in ranges}) > 60
    for (kind, name), found in ranges.items():
        default = next(field for field in kind.__dataclass_fields__.values() if field.name == name).default
        if isinstance(default, int | float | str | tuple):
            assert all(value in found for value in values_in(default)), f"{kind.__name__}.{name}"
        if isinstance(found, NotBlank):
            assert "" not in found
            assert "x" in found
        else:
            low = found.above if found.least is None else found.least
            assert low < (found.below if found.most is None else found.most), f"{kind.__name__}.{name}"
