"""What each rule of a data set did."""

from __future__ import annotations

from dataclasses import dataclass

from infinity.config import Config


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleCount(Config):
    """One rule as it was applied: its slug, its setting in words ("off" if not asked), and how many it dropped."""

    reason: str
    setting: str
    dropped: int
