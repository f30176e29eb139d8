"""Configs: frozen, strict, and the same value after a trip through JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest

from infinity.config import Config, ConfigError, digest_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner(Config):
    size: int
    mode: Literal["a", "b"] = "a"


@dataclass(frozen=True, kw_only=True, slots=True)
class Other(Config):
    rate: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer(Config):
    name: str
    part: Inner | Other
    pairs: tuple[tuple[int, float], ...] = ()
    table: dict[str, Inner] = field(default_factory=dict)
    maybe: float | None = None


FULL = Outer(name="n", part=Inner(size=3), pairs=((1, 2.0), (3, 4.5)), table={"k": Inner(size=1, mode="b")}, maybe=1.0)


@pytest.mark.parametrize("value", [FULL, Outer(name="", part=Other(rate=0.5))])
def test_json_and_back_is_the_identity(value: Outer) -> None:
    assert Outer.parse(value.dump()) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "x"}, "unknown 'nmae'; Outer has name"),
        ({"name": 3}, "Outer.name: expected str, got int 3"),
        ({"part": {"size": 1, "mode": "c"}}, "expected one of 'a', 'b', got 'c'"),
        ({"pairs": [[1, 2.0, 3]]}, r"pairs\[0\]: expected 2 values, got 3"),
        ({"part": {"size": True}}, "expected int, got bool True"),
        ({"table": [1]}, "expected an object"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Outer.from_json(FULL.to_json() | change)


def test_a_missing_key_and_broken_json_are_named() -> None:
    with pytest.raises(ConfigError, match="missing 'part'"):
        Outer.from_json({"name": "x"})
    with pytest.raises(ConfigError, match=r"file\.json: not valid JSON"):
        Outer.parse("{", where="file.json")


def test_the_digest_follows_the_value_not_the_object() -> None:
    assert FULL.digest() == Outer.parse(FULL.dump()).digest() == digest_of(FULL.to_json())
    assert FULL.digest() != FULL.replace(maybe=2.0).digest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Grown(Config):
    later: ClassVar[frozenset[str]] = frozenset({"extra", "parts"})
    size: int
    extra: int | None = None
    parts: tuple[Inner, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class GrownOuter(Config):
    inner: tuple[Grown, ...]
    table: dict[str, Grown] = field(default_factory=dict)


def test_a_field_that_came_later_changes_no_name_until_it_is_used() -> None:
    value = GrownOuter(inner=(Grown(size=1), Grown(size=2, extra=3)), table={"a": Grown(size=4)})
    assert value.identity() == {"inner": [{"size": 1}, {"size": 2, "extra": 3}], "table": {"a": {"size": 4}}}
    assert value.to_json()["inner"][0] == {"size": 1, "extra": None, "parts": []}
    assert FULL.identity() == FULL.to_json()
    assert GrownOuter.from_json(value.identity()) == value


def test_a_config_cannot_be_changed_and_infinity_is_not_json() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.name = "other"  # type: ignore[misc]
    with pytest.raises(ConfigError, match="inf"):
        FULL.replace(maybe=float("inf")).to_json()


def test_whole_numbers_are_read_as_floats_where_floats_are_asked_for() -> None:
    assert Other.from_json({"rate": 1}) == Other(rate=1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounded(Config):
    share: float = 0.5
    rates: tuple[float, ...] = ()
    named: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        if self.share < 0 or self.share > 1:  # both are false for NaN
            raise ValueError("share: expected 0 to 1")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", ["share", "rates", "named"])
def test_a_configuration_holds_finite_numbers_however_it_is_made(place: str, number: float) -> None:
    value = {"share": number, "rates": (0.5, number), "named": {"x": number}}[place]
    for make in (lambda: Bounded(**{place: value}), lambda: Bounded().replace(**{place: value})):
        with pytest.raises(ConfigError, match=rf"Bounded\.{place}: expected finite numbers"):
            make()
    with pytest.raises(ConfigError, match=place):
        Bounded.from_json({place: value})


@dataclass(frozen=True, kw_only=True, slots=True)
class Plain(Config):
    rate: float


def test_a_configuration_without_checks_of_its_own_refuses_nan_too() -> None:
    with pytest.raises(ConfigError, match=r"Plain\.rate"):
        Plain(rate=float("nan"))


@pytest.mark.parametrize(("name", "value"), [("share", 10**400), ("count", 10**400), ("count", -(2**64))])
def test_numbers_beyond_64_bits_or_a_float_are_named_with_their_place(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=rf"Bounded\.{name}: expected a .*number.* bits"):
        Bounded.from_json({name: value})


def test_what_a_class_says_of_its_fields_is_told_with_the_place() -> None:
    with pytest.raises(ConfigError, match=r"spec\.json: share: expected 0 to 1"):
        Bounded.from_json({"share": 2.0}, where="spec.json")
