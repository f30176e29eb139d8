"""Which replays a case needs, and their run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from infinity.checkpoint import CheckpointError
from tests.parity.case import Case, CaseError
from tests.parity.ledger import Ledger
from tests.parity.model.inference import replay_inference
from tests.parity.model.quantizer import replay_quantizer
from tests.parity.model.schedules import replay_schedules
from tests.parity.model.self_correction import replay_self_correction
from tests.parity.model.tokenizer import replay_tokenizer
from tests.parity.model.transformer import replay_transformer

_BY_NAME: dict[str, Callable[[Ledger], None]] = {
    "bsq_quantizer": replay_quantizer,
    "tokenizer": replay_tokenizer,
    "bitwise_self_correction": replay_self_correction,
    "transformer_train_forward": replay_transformer,
    "autoregressive_inference": replay_inference,
    "dynamic_resolution": replay_schedules,
}


def find_cases(folder: Path) -> list[Path]:
    """The folder itself if it has a ``case.json``, else all case folders below it; itself again if there are none."""
    if (folder / "case.json").is_file():
        return [folder]
    return sorted(path.parent for path in folder.rglob("case.json")) or [folder]


def replay(folder: Path) -> dict[str, Any]:
    """Compare one case folder and say how it went; nothing that a folder can contain raises."""
    try:
        case = Case.load(folder)
    except (CaseError, OSError, json.JSONDecodeError) as error:
        return {"case": str(folder), "kind": None, "passed": False, "failures": [str(error)], "tensors": {}}
    return compare(case).summary()


def compare(case: Case) -> Ledger:
    """Replay a case and compare everything it expects; what does not fit together is a failure."""
    ledger = Ledger(case)
    try:
        for run in _replays(case):
            run(ledger)
    except (CaseError, CheckpointError, SafetensorError) as error:
        ledger.failures.append(str(error))
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        ledger.failures.append(f"the case does not fit together: {type(error).__name__}: {error}")
    try:
        ledger.finish()
    except CaseError as error:
        ledger.failures.append(str(error))
    return ledger


def _replays(case: Case) -> list[Callable[[Ledger], None]]:
    """By the name of the case, and where that is unknown by what it holds (a case may hold several parts)."""
    named = _BY_NAME.get(str(case.about.get("case")))
    if named is not None:
        return [named]
    signs: list[tuple[set[str], Callable[[Ledger], None]]] = [
        ({"quantized_out"}, replay_quantizer),
        ({"decode_z", "decode_raw_features"}, replay_tokenizer),
        ({"x_clean", "x_flip"}, replay_self_correction),
        ({"logits", "loss_per_token"}, replay_transformer),
        ({"bits.0", "final_logits"}, replay_inference),
    ]
    found = [run for sign, run in signs if sign & set(case.expected)]
    if "table" in case.about:
        found.append(replay_schedules)
    if not found:
        raise CaseError(f"case: expected one of {', '.join(_BY_NAME)}, found {case.about.get('case')!r}")
    return found
