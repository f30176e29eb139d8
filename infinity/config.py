"""The base of every configuration, spec and report: frozen, strictly typed, and equal after a trip through JSON."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self, TypeVar

from infinity.ranges import NotBlank, Range, range_of, values_in
from infinity.strict_json import MAX_WHOLE_NUMBER, ConfigError, parse_json

__all__ = ["Config", "ConfigError", "digest_of", "one_of", "parse_json"]

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """A frozen value that survives a trip through JSON; unknown keys, missing keys and NaN are errors.

    Field types may be ``bool | int | float | str``, ``Literal``, another ``Config``, ``X | None``, a union of Configs
    that differ in their keys, ``tuple[X, ...]``, ``tuple[X, Y]`` and ``dict[str, X]``. A type of ``infinity.ranges``,
    such as ``Count``, also says which numbers a field may hold.

    Attributes:
        later: Class constant with the names of fields that were added after results of this kind were first stored
            under content-derived names. At their defaults they are not in ``identity``, so that older results are
            found again (decision 1).
    """

    later: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **options: Any) -> None:
        """Make every subclass look at its numbers before its own checks, since all comparisons with NaN are false."""
        own = cls.__dict__.get("__post_init__")
        if own is not None and not hasattr(own, "looks_at_numbers"):
            cls.__post_init__ = _after_numbers(own)  # type: ignore[assignment, method-assign]

    def __post_init__(self) -> None:
        """Refuse NaN, infinite numbers, and those outside of their field's range."""
        _check_numbers(self)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; tuples become lists."""
        return {field.name: _encode(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def identity(self) -> dict[str, Any]:
        """Return ``to_json`` without fields of ``later`` at their defaults, here and in all nested values."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain = {field.name: field for field in dataclasses.fields(self) if field.name in self.later}
        return {
            name: _encode(value, identity=True)
            for name, value in own.items()
            if name not in plain or value != _default(plain[name])
        }

    @classmethod
    def from_json(cls, data: Any, *, where: str = "") -> Self:
        """Parse strictly.

        Args:
            data: Result of ``json.loads``.
            where: Name of the place in error messages, for example a path.

        Raises:
            ConfigError: A key is unknown or missing, or a value has another type.
        """
        where = where or cls.__name__
        if not isinstance(data, Mapping):
            raise ConfigError(f"{where}: expected an object with the fields of {cls.__name__}, got {_kind(data)}")
        hints, required = _fields(cls)  # type: ignore[arg-type]  # a class is hashable; the checker doubts type[Self]
        if unknown := sorted(data.keys() - hints.keys()):
            names = ", ".join(map(repr, unknown))
            raise ConfigError(f"{where}: unknown {names}; {cls.__name__} has {', '.join(hints)}")
        if missing := sorted(required - data.keys()):
            raise ConfigError(f"{where}: missing {', '.join(map(repr, missing))} of {cls.__name__}")
        values = {name: _decode(hints[name], value, f"{where}.{name}") for name, value in data.items()}
        try:
            return cls(**values)
        except ConfigError:
            raise
        except ValueError as error:  # what the class itself says of its fields
            raise ConfigError(f"{where}: {error}") from error

    @classmethod
    def parse(cls, text: str | bytes, *, where: str = "") -> Self:
        """Parse a JSON text strictly."""
        return cls.from_json(parse_json(text, where=where or cls.__name__), where=where)

    def dump(self) -> str:
        """Return the JSON text for people: indented, in field order."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"

    def digest(self) -> str:
        """Return 16 hexadecimal digits that name this value: sha256 of its sorted JSON."""
        return digest_of(self.to_json())

    def replace(self, **changes: Any) -> Self:
        """Return the value with some fields changed, checked again."""
        return dataclasses.replace(self, **changes)


def one_of(name: str | None, known: Sequence[Name], where: str) -> Name | None:
    """Return the one of some names that a text is; None for None.

    Raises:
        ValueError: The text is none of them; the message begins with ``where``.
    """
    if name is None:
        return None
    for each in known:
        if name == each:
            return each
    raise ValueError(f"{where}: expected {' or '.join(known)}, got {name!r:.80}")


def digest_of(data: Any) -> str:
    """Return 16 hexadecimal digits of sha256 over the sorted, compact JSON of ``data``."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_numbers(config: Config) -> None:
    for field in dataclasses.fields(config):
        if not _is_finite(value := getattr(config, field.name)):
            raise ConfigError(f"{type(config).__name__}.{field.name}: expected finite numbers, got {value!r:.80}")
    for name, (expected, is_optional) in _ranges(type(config)).items():  # type: ignore[arg-type]  # as in from_json
        value = getattr(config, name)
        if any(each not in expected for each in values_in(value)):
            shown = f"{value:,}" if isinstance(value, int) else repr(value)
            or_none = " or None" if is_optional else ""
            raise ValueError(f"{type(config).__name__}.{name}: expected {expected}{or_none}, got {shown:.80}")


def _is_finite(value: Any) -> bool:
    return all(math.isfinite(each) for each in values_in(value) if isinstance(each, float))


@cache
def _ranges(cls: type[Config]) -> dict[str, tuple[Range | NotBlank, bool]]:
    """Return the range of every field that has one, and whether the field may be None."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {field.name: range_of(hints[field.name]) for field in dataclasses.fields(cls)}
    return {
        name: (each, type(None) in typing.get_args(hints[name])) for name, each in found.items() if each is not None
    }


def _after_numbers(own: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(own)
    def post_init(self: Any) -> None:
        _check_numbers(self)
        own(self)

    post_init.looks_at_numbers = True  # type: ignore[attr-defined]  # dataclass(slots=True) creates the class twice
    return post_init


@cache
def _fields(cls: type[Config]) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the types of the fields, in order, and the names of fields without a default."""
    hints, fields = typing.get_type_hints(cls), dataclasses.fields(cls)
    required = frozenset(f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING)
    return {field.name: hints[field.name] for field in fields}, required


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple | dict):  # its repr may be as long as the file
        return f"{type(value).__name__} of {len(value)} values"
    if isinstance(value, int) and abs(value) >= MAX_WHOLE_NUMBER:
        return f"int of {value.bit_length()} bits"
    return f"{type(value).__name__} {value!r:.80}"


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _encode(value: Any, *, identity: bool = False) -> Any:
    if isinstance(value, Config):
        return value.identity() if identity else value.to_json()
    if isinstance(value, tuple | list):
        return [_encode(item, identity=identity) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _encode(item, identity=identity) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"JSON has no {value}; store None for a value that was not measured")
    return value


def _decode(hint: Any, value: Any, where: str) -> Any:
    if type(value) is hint:  # the fast path: a large manifest has a hundred thousand texts and numbers
        if hint is int and abs(value) >= MAX_WHOLE_NUMBER:
            raise ConfigError(
                f"{where}: expected a whole number of at most 64 bits, got one of {value.bit_length()} bits"
            )
        return value
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{where}: expected one of {', '.join(map(repr, args))}, got {value!r:.80}")
        return value
    if origin in (typing.Union, types.UnionType):
        return _decode_union(args, value, where)
    if origin is tuple:
        return _decode_tuple(args, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected an object, got {_kind(value)}")
        return {str(key): _decode(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(hint, type) and issubclass(hint, Config):
        return value if isinstance(value, hint) else hint.from_json(value, where=where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(
                f"{where}: expected a number below 1.8e308, got one of {value.bit_length()} bits"
            ) from None
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {_kind(value)}")
    return value


def _decode_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: expected a list, got {_kind(value)}")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_decode(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(value) != len(args):
        raise ConfigError(f"{where}: expected {len(args)} values, got {len(value)}")
    return tuple(_decode(arg, item, f"{where}[{i}]") for i, (arg, item) in enumerate(zip(args, value, strict=True)))


def _of_kind(args: tuple[Any, ...], value: Any) -> list[Any]:
    """Return the types of a union that a value may have: only the type of its ``kind``, if there is one."""
    options = [arg for arg in args if arg is not type(None)]
    kind = value.get("kind") if isinstance(value, Mapping) else None
    named = [arg for arg in options if isinstance(arg, type) and issubclass(arg, Config) and kind in _kinds(arg)]
    return named or options


def _kinds(cls: type[Config]) -> tuple[Any, ...]:
    hints, _ = _fields(cls)  # type: ignore[arg-type]  # as in from_json
    return typing.get_args(hints.get("kind"))


def _decode_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in args:
        return None
    errors = []
    for arg in _of_kind(args, value):
        try:
            return _decode(arg, value, where)
        except ConfigError as error:
            errors.append(str(error))
    raise ConfigError(" / ".join(errors))
