"""Texts and tables of texts that a published Python file assigns, read from its syntax tree: the file is never run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping

Literal = str | Mapping[str, "Literal"]
"""A text, or texts by name."""

_MOST_CHARACTERS = 2**20


class _Unknown(Exception):
    """An expression that is neither a text nor a table of texts."""


def assigned_literals(source: bytes, where: str) -> dict[str, Literal]:
    """Return the texts and tables of texts that a file assigns at its top level, by the name of the variable.

    A table may name earlier variables; entries that are neither texts nor tables are left out.

    Args:
        where: Name of the file in error messages.

    Raises:
        ValueError: The content is no Python.

    Example:
        >>> assigned_literals(b"A = 'one'\\nB = {'a': A, 'n': 3}\\nC = open('x')\\n", "file.py")
        {'A': 'one', 'B': {'a': 'one'}}
    """
    found: dict[str, Literal] = {}
    for name, value in _assignments(parsed(source, where)):
        try:
            found[name] = _value(value, found)
        except _Unknown:
            found.pop(name, None)
        except RecursionError:
            raise ValueError(f"{where}: expected plain texts, found expressions that are nested too deeply") from None
    return found


def parsed(source: bytes, where: str) -> ast.Module:
    """Return the syntax tree of a file.

    Raises:
        ValueError: The content is no Python, or larger than a script is.
    """
    if len(source) > _MOST_CHARACTERS:
        raise ValueError(f"{where}: expected a script of at most {_MOST_CHARACTERS} bytes, found {len(source)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where}: expected a Python file, found one that cannot be parsed ({error})") from error


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value


def _value(node: ast.expr, known: Mapping[str, Literal]) -> Literal:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [_value(side, known) for side in (node.left, node.right)]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == 2 and sum(map(len, texts)) <= _MOST_CHARACTERS:
            return "".join(texts)
    if isinstance(node, ast.Dict):
        return dict(_entries(node, known))
    raise _Unknown


def _entries(node: ast.Dict, known: Mapping[str, Literal]) -> Iterator[tuple[str, Literal]]:
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            try:
                yield key.value, _value(value, known)
            except _Unknown:
                continue
