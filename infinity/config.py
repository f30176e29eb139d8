"""Frozen, strict, JSON: the base of every configuration, spec and report."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self


class ConfigError(ValueError):
    """A configuration does not say what its type asks for; the message names the place, the expected and the given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """A frozen value that goes to JSON and comes back equal; unknown and missing keys are errors.

    Field types may be ``bool | int | float | str``, ``Literal``, another ``Config``, ``X | None``, a union of Configs
    that differ in their keys, ``tuple[X, ...]``, ``tuple[X, Y]`` and ``dict[str, X]``.

    Attributes:
        later: Class constant, the fields that came after values of this kind were first named by their content: at
            their defaults they are no part of ``identity``, so that what was computed before is found again.
    """

    later: ClassVar[frozenset[str]] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; tuples become lists."""
        return {field.name: _encode(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def identity(self) -> dict[str, Any]:
        """``to_json`` without the fields of ``later`` that have their defaults, here and in all values within."""
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
            data: What ``json.loads`` gave.
            where: Name of the place in error messages, for example a path.

        Raises:
            ConfigError: An unknown or missing key, or a value of another type.
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
        return cls(**{name: _decode(hints[name], value, f"{where}.{name}") for name, value in data.items()})

    @classmethod
    def parse(cls, text: str | bytes, *, where: str = "") -> Self:
        """``from_json`` of a JSON text."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{where or cls.__name__}: not valid JSON ({error})") from error
        return cls.from_json(data, where=where)

    def dump(self) -> str:
        """The JSON text that people read: indented, in field order."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"

    def digest(self) -> str:
        """16 hexadecimal digits that name this value: sha256 of its sorted JSON."""
        return digest_of(self.to_json())

    def replace(self, **changes: Any) -> Self:
        """The same value with some fields changed, checked again."""
        return dataclasses.replace(self, **changes)


def digest_of(data: Any) -> str:
    """16 hexadecimal digits of sha256 over the sorted, compact JSON of ``data``."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _fields(cls: type[Config]) -> tuple[dict[str, Any], frozenset[str]]:
    """Types of the fields, in their order, and the names of those without a default."""
    hints, fields = typing.get_type_hints(cls), dataclasses.fields(cls)
    required = frozenset(f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING)
    return {field.name: hints[field.name] for field in fields}, required


def _kind(value: Any) -> str:
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
    if type(value) is hint:  # most values by far: texts and numbers, a hundred thousand in the head of a large data set
        return value
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{where}: expected one of {', '.join(map(repr, args))}, got {value!r}")
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
        return float(value)
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


def _decode_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in args:
        return None
    errors = []
    for arg in args:
        if arg is type(None):
            continue
        try:
            return _decode(arg, value, where)
        except ConfigError as error:
            errors.append(str(error))
    raise ConfigError(" / ".join(errors))
