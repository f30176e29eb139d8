"""Mutants: where the source can be changed, into what, and how a sample of them is drawn.

Not changed are texts, annotations, ``__repr__``, assertions for the type checker, whatever is part of a ``raise``, a
log line or a format, and ``zip(strict=...)``, which only checks the programmer.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr,
}  # fmt: skip
_CALLED = {
    "min": "max", "max": "min", "amin": "amax", "amax": "amin", "argmin": "argmax", "argmax": "argmin",
    "gt": "ge", "ge": "gt", "lt": "le", "le": "lt", "gt_": "ge_", "ge_": "gt_", "lt_": "le_", "le_": "lt_",
}  # fmt: skip
_LOGS = {"logger", "logging", "warnings"}
_UNCHANGED_FIELDS = {"annotation", "returns", "decorator_list", "format_spec", "type_params"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutant:
    """One change of one place. Its key has neither file nor line number, so that both may move.

    Attributes:
        path: Of the source, below the repository.
        module: Last component of the module's name.
        function: Qualified name of the function or class around the place; ``<module>`` outside of all.
        operator: Kind of change.
        line: Text of the source line.
        change: What stands there, and what the mutant has instead.
        nth: Counts equal changes of equal lines of a function.
        number: Of the source line.
        site: Place in the order of ``_sites``.
        choice: Which of the changes of that place.
    """

    path: str
    module: str
    function: str
    operator: str
    line: str
    change: str
    nth: int
    number: int
    site: int
    choice: int

    @property
    def key(self) -> str:
        """What names it from run to run; two files may have equal ones, which then are judged alike."""
        return " | ".join([self.function, self.line, self.change, str(self.nth)])


@dataclass(frozen=True, slots=True)
class _Site:
    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST
    function: str

    def put(self, node: ast.AST) -> None:
        """Put another node into this place."""
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def _sites(node: ast.AST, function: str = "") -> Iterator[_Site]:
    """Every place that may be changed, in the order of the source."""
    for field, value in ast.iter_fields(node):
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or field in _UNCHANGED_FIELDS or _is_left_alone(child):
                continue
            inner = function
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{function}.{child.name}".lstrip(".")
            yield _Site(node, field, index, child, function)
            yield from _sites(child, inner)


def _is_left_alone(node: ast.AST) -> bool:
    match node:
        case ast.Raise() | ast.Assert() | ast.FunctionDef(name="__repr__") | ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.keyword(arg="strict"):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
            return name in _LOGS
        case ast.Expr(value=ast.Call() as call):
            return _is_left_alone(call)
    return False


def _changes(node: Any) -> Iterator[tuple[str, ast.AST]]:
    """Kind and result of each change of a node."""
    match node:
        case ast.Compare(ops=operators):
            for index, operator in enumerate(operators):
                changed = deepcopy(node)
                changed.ops[index] = _COMPARISONS[type(operator)]()
                yield "comparison", changed
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator) if type(operator) in _ARITHMETIC:
            yield "arithmetic", _with(node, op=_ARITHMETIC[type(operator)]())
        case ast.Constant(value=bool() as value):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield "constant", ast.Constant(0 if value == 1 else value + 1)
        case ast.BoolOp(op=operator):
            yield "boolean", _with(node, op=ast.Or() if isinstance(operator, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield "boolean" if isinstance(node.op, ast.Not) else "arithmetic", operand
        case ast.Expr(value=ast.Call()):
            yield "call removed", ast.Pass()
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            is_truth = isinstance(value, ast.Compare | ast.BoolOp)
            yield "return", ast.Return(ast.UnaryOp(ast.Not(), value) if is_truth else ast.Constant(None))
        case ast.Slice():
            yield from (("slice", changed) for changed in _other_slices(node))
        case ast.Call(func=ast.Name(id=name)) if name in _CALLED:
            yield "other call", _with(node, func=ast.Name(_CALLED[name], ast.Load()))
        case ast.Call(func=ast.Attribute(attr=name) as function) if name in _CALLED:
            yield "other call", _with(node, func=_with(function, attr=_CALLED[name]))


def _other_slices(node: ast.Slice) -> Iterator[ast.Slice]:
    one = ast.Constant(1)
    if node.lower is not None or node.upper is None:
        yield _with(node, lower=one if node.lower is None else ast.BinOp(node.lower, ast.Add(), one))
    if node.upper is not None:
        yield _with(node, upper=ast.BinOp(node.upper, ast.Sub(), one))


def _with(node: Any, **fields: Any) -> Any:
    changed = deepcopy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def mutants_of(path: Path, root: Path) -> list[Mutant]:
    """All mutants of a source file."""
    source = path.read_text(encoding="utf-8")
    lines, found, seen = source.splitlines(), [], Counter[tuple[str, ...]]()
    module = path.parent.name if path.stem == "__init__" else path.stem
    for number, site in enumerate(_sites(ast.parse(source))):
        for choice, (operator, changed) in enumerate(_changes(site.node)):
            old, new = (" ".join(ast.unparse(ast.fix_missing_locations(node)).split()) for node in (site.node, changed))
            line = site.node.lineno  # type: ignore[attr-defined]
            name = (site.function or "<module>", lines[line - 1].strip(), f"{old} -> {new}")
            found.append(
                Mutant(
                    path=path.relative_to(root).as_posix(),
                    module=module,
                    function=name[0],
                    operator=operator,
                    line=name[1],
                    change=name[2],
                    nth=seen[name],
                    number=line,
                    site=number,
                    choice=choice,
                )
            )
            seen[name] += 1
    return found


def mutated_code(source: str, filename: str, mutant: Mutant) -> CodeType:
    """Compile a source file with one change."""
    tree = ast.parse(source)
    site = next(site for number, site in enumerate(_sites(tree)) if number == mutant.site)
    _, changed = list(_changes(site.node))[mutant.choice]
    site.put(ast.copy_location(changed, site.node))
    return compile(ast.fix_missing_locations(tree), filename, "exec")


def sample(mutants: Sequence[Mutant], number: int, seed: int) -> list[Mutant]:
    """Draw mutants by a hash of seed and key, so that a change elsewhere leaves nearly the whole sample as it was."""
    drawn = sorted(mutants, key=lambda mutant: hashlib.sha256(f"{seed} {mutant.key}".encode()).digest())
    return drawn[:number]
