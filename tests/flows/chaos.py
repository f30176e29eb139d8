"""An end-to-end flow in a process of its own, which a test may kill: ``python -m tests.flows.chaos <folder>``."""

from __future__ import annotations

import sys

from flows.end_to_end import end_to_end
from flows.parameters import FinetuneForm, PretrainForm, TokenizerForm

STEPS = {"num_steps": 300, "save_every_steps": 10, "sample_every_steps": 150}
"""Of each training: long enough to be killed in, and stored often."""


def main() -> int:
    """Draw scenes, train, finetune and evaluate in the smallest recipe; what an earlier process has done stays done."""
    state = end_to_end(
        run=sys.argv[1],
        recipe="mini",
        tokenizer=TokenizerForm(**STEPS),
        pretrain=PretrainForm(**STEPS),
        finetune=FinetuneForm(**STEPS),
        return_state=True,
    )
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main())
