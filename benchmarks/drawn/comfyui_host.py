"""Load and run custom nodes as ComfyUI does, without ComfyUI (which is not on the package index).

Loading follows ``load_custom_node`` of its ``nodes.py``: the folder's ``__init__.py`` becomes a module that is named by
its path. Running follows its ``execution.py``: inputs are checked against ``INPUT_TYPES``, then handed by name to the
method that ``FUNCTION`` names.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def load_custom_node(folder: Path) -> dict[str, type]:
    """Import a folder of ``custom_nodes`` and return its node classes by name.

    Raises:
        ImportError: The folder is no custom node.
    """
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder}: expected a package with __init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    nodes: dict[str, type] | None = getattr(module, "NODE_CLASS_MAPPINGS", None)
    if nodes is None:
        raise ImportError(f"{folder}: expected NODE_CLASS_MAPPINGS, found none")
    return nodes


def run_node(node: Any, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Run a node with the given inputs, and defaults for the other widgets.

    Args:
        inputs: Inputs by name.

    Raises:
        ValueError: An input is unknown, missing, of the wrong type or out of range.
    """
    declared = node.INPUT_TYPES()
    required, optional = declared["required"], declared.get("optional", {})
    unknown = set(inputs) - set(required) - set(optional)
    if unknown:
        raise ValueError(f"{node.__name__}: expected inputs among {sorted({*required, *optional})}, got {unknown}")
    given = {}
    for name, kind in {**required, **optional}.items():
        if name in inputs:
            given[name] = inputs[name]
            _check_input(name, kind, inputs[name])
        elif name in required:
            given[name] = _default(name, kind)
    found: tuple[Any, ...] = getattr(node(), node.FUNCTION)(**given)
    if len(found) != len(node.RETURN_TYPES):
        raise ValueError(f"{node.__name__}: expected {len(node.RETURN_TYPES)} outputs, got {len(found)}")
    return found


def _options(kind: tuple[Any, ...]) -> dict[str, Any]:
    return kind[1] if len(kind) > 1 else {}


def _default(name: str, kind: tuple[Any, ...]) -> Any:
    if isinstance(kind[0], list):
        return kind[0][0]
    if "default" not in _options(kind):
        raise ValueError(f"{name}: expected an input of type {kind[0]}, got none")
    return _options(kind)["default"]


def _check_input(name: str, kind: tuple[Any, ...], value: Any) -> None:
    if isinstance(kind[0], list):
        if value not in kind[0]:
            raise ValueError(f"{name}: expected one of {kind[0]}, got {value!r}")
        return
    types: dict[str, Any] = {"INT": int, "FLOAT": (int, float), "STRING": str}
    if kind[0] in types and not isinstance(value, types[kind[0]]):
        raise ValueError(f"{name}: expected {kind[0]}, got {value!r}")
    low, high = _options(kind).get("min"), _options(kind).get("max")
    if low is not None and not low <= value <= high:
        raise ValueError(f"{name}: expected {low} to {high}, got {value}")
