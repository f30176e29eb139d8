"""What was compared, how far it was off, and what nobody looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.parity.case import Case

# Tolerances of the goldens README.
QUANTIZER = 1e-6
TOKENIZER = 5e-5
LOGITS = 1e-3
MARGIN = 2e-4
"""Of the closest bit decision: the largest noise of logits that the README measured."""
LOSS = 1e-5
GRADIENT_RELATIVE = 1e-3
STATISTIC = 1e-5
"""Of shares, means and deviations that follow from compared tensors."""

_GRADIENT_FLOOR = 1e-4
"""Of the root mean square of a gradient: the float32 noise of an element that happens to be near zero."""


@dataclass
class Ledger:
    """Comparisons of one case.

    Attributes:
        tensors: By name: largest absolute difference, tolerance, whether it holds.
        numbers: The same for figures of ``case.json``.
        failures: Sentences; the case passed if there are none.
        information: Figures that are reported but not judged.
    """

    case: Case
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    information: dict[str, Any] = field(default_factory=dict)

    def close(self, name: str, found: Tensor, tolerance: float) -> None:
        """Compare floats; every element must be within ``tolerance``, and "not a number" equals itself only."""
        expected = self._expected(name, found)
        if expected is None:
            return
        difference = (found.double() - expected.double()).abs()
        difference = torch.where(found.isnan() & expected.isnan(), 0.0, difference)
        self._tensor(name, difference, bool((difference <= tolerance).all()), tolerance=tolerance)

    def equal(self, name: str, found: Tensor) -> None:
        """Compare bits or integers, exactly."""
        expected = self._expected(name, found)
        if expected is None:
            return
        difference = (found.double() - expected.double()).abs()
        self._tensor(name, difference, torch.equal(found.to(expected.dtype), expected), tolerance=0)

    def gradient(self, name: str, found: Tensor) -> None:
        """Compare relatively, element by element, with a floor for elements near zero."""
        expected = self._expected(name, found)
        if expected is None:
            return
        difference = (found.double() - expected.double()).abs()
        size = expected.double().abs()
        floor = _GRADIENT_FLOOR * size.square().mean().sqrt()
        holds = bool((difference <= GRADIENT_RELATIVE * size + floor).all())
        relative = float(difference.max() / size.max().clamp_min(1e-30))
        self._tensor(name, difference, holds, relative=relative, tolerance_relative=GRADIENT_RELATIVE)

    def picture(self, name: str, found: Tensor, levels: Tensor) -> None:
        """Compare 8-bit pictures: within 1, and off by 1 only where our float level lies on a rounding edge."""
        expected = self._expected(name, found)
        if expected is None:
            return
        difference = (found.int() - expected.int()).abs()
        on_edge = (levels - levels.round()).abs() <= TOKENIZER * 255 / 2
        holds = bool(((difference == 0) | ((difference == 1) & on_edge)).all())
        self._tensor(name, difference.double(), holds, tolerance=1, off_by_one=int((difference == 1).sum()))

    def number(self, name: str, found: Any, expected: Any, tolerance: float = 0.0, relative: bool = False) -> None:
        """Compare one figure, or lists of them; exactly where the tolerance is 0."""
        if isinstance(expected, list | tuple):
            found = list(found)
            if len(found) != len(expected):
                self._fail_number(name, f"expected {len(expected)} values, found {len(found)}")
                return
            for index, (one, other) in enumerate(zip(found, expected, strict=True)):
                self.number(f"{name}.{index}", one, other, tolerance, relative)
            return
        if isinstance(expected, bool | str) or expected is None or isinstance(found, bool | str) or found is None:
            if type(found) is not type(expected) or found != expected:
                self._fail_number(name, f"expected {expected!r}, found {found!r}")
            else:
                self.numbers[name] = {"max_abs": 0.0, "tolerance": 0.0, "ok": True}
            return
        difference = abs(float(found) - float(expected))
        limit = tolerance * abs(float(expected)) if relative else tolerance
        holds = math.isfinite(difference) and difference <= limit
        self.numbers[name] = {"max_abs": difference, "tolerance": limit, "ok": holds}
        if not holds:
            self.failures.append(f"{name}: expected {expected}, found {found}, tolerance {limit:g}")

    def listed_numbers(self, found: dict[str, Any], tolerance: float = 0.0, *, relative: bool = False) -> None:
        """Compare figures with those of the same dotted name in ``case.json``; absent ones are left out."""
        for name, value in found.items():
            node: Any = self.case.about
            for part in name.split("."):
                node = node.get(part) if isinstance(node, dict) else None
                if node is None:
                    break
            if node is not None:
                self.number(name, value, node, tolerance, relative)

    def require(self, holds: bool, failure: str) -> None:
        """Note a failure unless something holds."""
        if not holds:
            self.failures.append(failure)

    def finish(self) -> None:
        """Compare the files with their listing, and fail for every expected tensor that was not compared."""
        for file, (listed, held) in self.case.listed_tensors().items():
            for name in sorted(set(listed) ^ set(held)):
                self.failures.append(f"{file}: {name} is {'listed but absent' if name in listed else 'not listed'}")
            for name in set(listed) & set(held):
                self.number(f"files.{file}.{name}.shape", list(held[name].shape), listed[name]["shape"])
                dtype = str(held[name].dtype).removeprefix("torch.")
                self.require(
                    dtype == listed[name]["dtype"], f"{file}: {name} is {dtype}, listed as {listed[name]['dtype']}"
                )
        for name in sorted(set(self.case.expected) - set(self.tensors)):
            self.failures.append(f"{name}: expected tensor that no replay produces")

    @property
    def passed(self) -> bool:
        """Whether everything held."""
        return not self.failures

    def _expected(self, name: str, found: Tensor) -> Tensor | None:
        if name not in self.case.expected:
            return None
        expected = self.case.expected[name]
        if found.shape != expected.shape:
            self.tensors[name] = {"max_abs": None, "ok": False}
            self.failures.append(f"{name}: expected the shape {tuple(expected.shape)}, found {tuple(found.shape)}")
            return None
        return expected

    def _tensor(self, name: str, difference: Tensor, holds: bool, **more: float) -> None:
        largest = float(difference.max()) if difference.numel() else 0.0
        self.tensors[name] = {"max_abs": largest if math.isfinite(largest) else None, **more, "ok": holds}
        if not holds:
            where = [
                int(i) for i in torch.unravel_index(difference.nan_to_num(nan=math.inf).argmax(), difference.shape)
            ]
            self.failures.append(f"{name}: off by {largest:g} at {where}, allowed {more}")

    def _not_compared(self) -> list[str]:
        """Figures of ``case.json`` that steer the replay or describe the reference's own noise."""
        compared = {name.replace("/", ".") for name in self.numbers}
        skipped = {"files", "made_with", "upstream_commit", "notes", "scale_schedule"}
        about = {key: value for key, value in self.case.about.items() if key not in skipped}
        return sorted({_group(name) for name in _figures(about) if name not in compared})

    def _fail_number(self, name: str, reason: str) -> None:
        self.numbers[name] = {"max_abs": None, "tolerance": 0.0, "ok": False}
        self.failures.append(f"{name}: {reason}")

    def summary(self) -> dict[str, Any]:
        """What is printed."""
        numbers = [n["max_abs"] for n in self.numbers.values() if n["max_abs"] is not None]
        return {
            "case": str(self.case.folder),
            "kind": self.case.about.get("case"),
            "passed": self.passed,
            "failures": self.failures,
            "tensors": self.tensors,
            "numbers": {"compared": len(self.numbers), "largest_difference": max(numbers, default=0.0)},
            "failed_numbers": {name: value for name, value in self.numbers.items() if not value["ok"]},
            "information": {**self.information, "figures_not_compared": self._not_compared()},
        }


def _figures(node: Any, name: str = "") -> list[str]:
    """Dotted names of all numbers below a JSON value."""
    if isinstance(node, dict):
        return [path for key, value in node.items() for path in _figures(value, f"{name}.{key}" if name else str(key))]
    if isinstance(node, list):
        return [path for index, value in enumerate(node) for path in _figures(value, f"{name}.{index}")]
    return [name] if isinstance(node, int | float) and not isinstance(node, bool) else []


def _group(name: str) -> str:
    """The name of a figure without the places in lists."""
    return ".".join(part for part in name.split(".") if not part.isdigit())
