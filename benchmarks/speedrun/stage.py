"""Run one stage of the demo of the tree in the present folder; the word "begin" precedes it, "end" follows.

``python stage.py OUTPUT SEED STAGE``. This file imports nothing but that tree, also one of 29 November 2026.
"""

import os
import sys
from typing import Any

sys.path.insert(0, os.getcwd())


def main(output: str, seed: int, name: str) -> None:
    """Run the stage, with a Ray of its own, which is ready before it begins."""
    try:
        from infinity.jobs.cluster.connection import connect
        from infinity.recipes.runs import end_to_end
    except ImportError:  # the rooms of November
        from infinity.jobs.cluster import connect  # type: ignore[attr-defined, no-redef]
        from infinity.jobs.recipes import end_to_end  # type: ignore[import-not-found, no-redef]
    from infinity.jobs.registry import run_spec

    spec = getattr(seeded(end_to_end("demo", source=None, output=output), seed), name)
    with connect(None):
        spec = spec.located() if name == "evaluation" else spec
        print("begin", flush=True)
        run_spec(spec)
        print("end", flush=True)
    print(spec.folder, flush=True)


def seeded(plan: Any, seed: int) -> Any:
    """Return the plan with another seed of all trainings, whose stages name each other anew."""
    tokenizer = plan.tokenizer.replace(seed=seed)
    reads = {"seed": seed, "tokenizer": f"{tokenizer.folder}/model"}
    pretrain = plan.pretrain.replace(**reads)
    finetune = plan.finetune.replace(**reads, start_from=f"{pretrain.folder}/model")
    evaluation = plan.evaluation.replace(model=f"{finetune.folder}/model")
    return plan.replace(tokenizer=tokenizer, pretrain=pretrain, finetune=finetune, evaluation=evaluation)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
