"""Which models of a family were rolled back and are not promoted again by themselves."""

from __future__ import annotations

from collections.abc import Sequence

from infinity.evaluation.promotion.champions import Champion


def rolled_back(history: Sequence[Champion]) -> dict[str, Champion]:
    """By digest of a model the record that took it out of the champion's place, which says who, when and why.

    A promotion of the same model afterwards, which somebody must have asked for, ends it; so does a rollback to it.
    Records that were written before they named these models themselves are read so: a rollback concerns every model
    that was champion since the one that came back.

    Args:
        history: All records of the family, oldest first.
    """
    found: dict[str, Champion] = {}
    for place, record in enumerate(history):
        if record.action == "rollback":
            gone = record.set_aside or _since(history[:place], record.model_digest)
            found |= dict.fromkeys(gone, record)
        found.pop(record.model_digest, None)
    return found


def _since(history: Sequence[Champion], digest: str) -> tuple[str, ...]:
    """Digests of the champions after the last record of this model."""
    gone: list[str] = []
    for record in reversed(history):
        if record.model_digest == digest:
            break
        gone.append(record.model_digest)
    return tuple(dict.fromkeys(gone))
