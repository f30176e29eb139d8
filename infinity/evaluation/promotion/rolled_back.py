"""Models of a family that were rolled back, which are not promoted again automatically."""

from __future__ import annotations

from collections.abc import Sequence

from infinity.evaluation.promotion.champions import Champion


def rolled_back(history: Sequence[Champion]) -> dict[str, Champion]:
    """Return, by model digest, the record that rolled the model back, which says who, when and why.

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
            gone = record.set_aside or _since(history[:place], record.model_digest)
            found |= dict.fromkeys(gone, record)
        found.pop(record.model_digest, None)
    return found


def _since(history: Sequence[Champion], digest: str) -> tuple[str, ...]:
    """Return the digests of the champions after the last record of this model."""
    gone: list[str] = []
    for record in reversed(history):
        if record.model_digest == digest:
            break
        gone.append(record.model_digest)
    return tuple(dict.fromkeys(gone))
