"""Every setting of a spec by its path, from the spec's own definition: names, types, defaults and help texts.

Commands and forms offer what a spec can say without saying it again: ``settings_of`` lists the settings, and
``with_settings`` changes a spec by paths such as ``filters.captions.min_words``.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from infinity.config import Config, ConfigError

AnyConfig = TypeVar("AnyConfig", bound=Config)

_FIELD = re.compile(r"^ {0,4}(\w+): (.*)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One value of a spec.

    Attributes:
        path: Names of the fields down to the value, with dots between them.
        kind: Type in words.
        default: JSON of the value where nothing is said; empty for a value that must be given.
        help: Sentence of the field's documentation.
    """

    path: str
    kind: str
    default: str
    help: str

    @property
    def group(self) -> str:
        """Path of what the value belongs to; empty for the spec itself."""
        return self.path.rpartition(".")[0]


def settings_of(kind: type[Config], prefix: str = "") -> Iterator[Setting]:
    """Yield all settings of a kind of spec, in the order of their fields.

    Example:
        >>> from infinity.data.loading.shuffle import OrderConfig
        >>> [(setting.path, setting.default) for setting in settings_of(OrderConfig)]
        [('window_pictures', '16384')]
    """
    hints, helps = typing.get_type_hints(kind), _helps(kind)
    for field in dataclasses.fields(kind):
        path, hint = prefix + field.name, hints[field.name]
        inner = _config_in(hint)
        if inner is not None and typing.get_origin(hint) is not tuple:
            yield from settings_of(inner, path + ".")
            continue
        default = _default(field)
        yield Setting(path=path, kind=_in_words(hint), default=default, help=helps.get(field.name, ""))


def with_settings(spec: AnyConfig, changes: Mapping[str, Any]) -> AnyConfig:
    """Return a spec with some values changed; of a part that is null the other values are its defaults.

    Args:
        changes: New values by path: JSON values, or texts as a command line has them.

    Raises:
        ConfigError: There is no such setting, or a value has another type or is out of its range.
    """
    data = spec.to_json()
    for path, value in changes.items():
        *parts, name = path.split(".")
        place: dict[str, Any] = data
        kind: type[Config] = type(spec)
        for part in parts:
            inner = _config_in(_hint(kind, part, path, spec))
            if inner is None:
                raise ConfigError(f"{path}: {part} has no settings of its own; set {part} as a whole")
            if place[part] is None:
                place[part] = {}
            if not isinstance(place[part], dict):
                raise ConfigError(f"{path}: {part} is given as a whole too; expected one of both")
            place, kind = place[part], inner
        hint = _hint(kind, name, path, spec)
        place[name] = _parsed(value, hint, path) if isinstance(value, str) else value
    return type(spec).from_json(data, where="settings")


def _hint(kind: type[Config], name: str, path: str, spec: Config) -> Any:
    hints = typing.get_type_hints(kind)
    if name not in hints:
        near = get_close_matches(path, [setting.path for setting in settings_of(type(spec))], 3, 0.5)
        also = f"; near it are {', '.join(near)}" if near else ""
        raise ConfigError(f"{path}: there is no such setting{also}")
    return hints[name]


def _parsed(text: str, hint: Any, path: str) -> Any:
    """Return the value that a text of a command line means for a type."""
    kinds = _options(hint)
    if text == "null" and type(None) in kinds:
        return None
    if str in kinds or any(typing.get_origin(kind) is typing.Literal for kind in kinds):
        return text
    is_list = any(typing.get_origin(kind) is tuple for kind in kinds)
    if is_list and not text.lstrip().startswith("["):
        inner = next(typing.get_args(kind)[0] for kind in kinds if typing.get_origin(kind) is tuple)
        return [_parsed(part.strip(), inner, path) for part in text.split(",") if part.strip()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected {_in_words(hint)}, got {text[:80]!r}") from error


def _options(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _config_in(hint: Any) -> type[Config] | None:
    """Return the kind of config that a field holds, perhaps as one of two options."""
    found = [kind for kind in _options(hint) if isinstance(kind, type) and issubclass(kind, Config)]
    return found[0] if len(found) == 1 else None


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        value = field.default
    else:
        return ""
    plain = (
        [each.to_json() if isinstance(each, Config) else each for each in value] if isinstance(value, tuple) else value
    )
    return json.dumps(plain)


def _in_words(hint: Any) -> str:
    """Return a type for people.

    Example:
        >>> _in_words(int | None), _in_words(tuple[float, ...])
        ('whole number or null', 'numbers')
    """
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}
    words = []
    for kind in _options(hint):
        if typing.get_origin(kind) is typing.Literal:
            words.append(", ".join(map(str, typing.get_args(kind))))
        elif typing.get_origin(kind) is tuple:
            words.append(_in_words(typing.get_args(kind)[0]) + "s")
        else:
            words.append(names.get(kind, "object"))
    return " or ".join(dict.fromkeys(words))


def _helps(kind: type[Config]) -> dict[str, str]:
    """Return the lines under ``Attributes:`` of the documentation of a class and its bases, by field."""
    base = kind.__bases__[0]
    found = _helps(base) if issubclass(base, Config) and base is not Config else {}
    name = ""
    _, _, text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    for line in text.splitlines():
        if match := _FIELD.match(line):
            name = match[1]
            found[name] = match[2]
        elif line.startswith("        ") and name:
            found[name] += " " + line.strip()
        elif line.strip():
            break
    return found
