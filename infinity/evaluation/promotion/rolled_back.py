"""Models of a family that a person set aside or left, which are not promoted again automatically."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infinity.evaluation.promotion.champions import Champion


def rolled_back(history: Sequence[Champion]) -> dict[str, Champion]:
    """Return, by model digest, the record that set the model aside, which says who, when and why.

    A later promotion of the same model, which someone must have asked for, ends its exclusion; so does a rollback to
    it.

    Earlier versions did not list these models in their records. For those records, a rollback concerns every model that
    was champion since the one that came back.

    Args:
        history: All records of the family, oldest first.
    """
    found: dict[str, Champion] = {}
    for place, record in enumerate(history):
        if record.action == "rollback":
            gone = _since(history[:place], record.model_digest) if record.set_aside is None else record.set_aside
            found |= dict.fromkeys(gone, record)
        found.pop(record.model_digest, None)
    return found


def not_promoted(history: Sequence[Champion]) -> dict[str, Champion]:
    """Return, by model digest, the record why a model is not promoted automatically.

    These are the models that were set aside, and the one that a person left last: while the model that the person chose
    is champion, no evaluation undoes that choice. A model that was left but not set aside still is a measure for
    others.

    Args:
        history: All records of the family, oldest first.
    """
    found = rolled_back(history)
    if len(history) > 1 and history[-1].action == "rollback":
        left, present = history[-2], history[-1]
        if left.model_digest != present.model_digest:
            found.setdefault(left.model_digest, present)
    return found


def _since(history: Sequence[Champion], digest: str) -> tuple[str, ...]:
    """Return the digests of the champions after the last record of this model."""
    gone: list[str] = []
    for record in reversed(history):
        if record.model_digest == digest:
            break
        gone.append(record.model_digest)
    return tuple(dict.fromkeys(gone))
