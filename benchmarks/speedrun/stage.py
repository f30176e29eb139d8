"""Run the demo's stages of the tree in the present folder: "begin", a line per stage with its seconds, then "end".

``python stage.py OUTPUT SEED [bfloat16]``. This file imports nothing but that tree, also one of 29 November 2026. The
line after "end" is the folder of the evaluation.
"""

import os
import sys
import time
from typing import Any

sys.path.insert(0, os.getcwd())
STAGES = ("dataset", "tokenizer", "pretrain", "finetune", "evaluation")


def main(output: str, seed: int, dtype: str = "float32") -> None:
    """Run all stages with one local Ray, which is ready before they begin."""
    try:
        from infinity.jobs.cluster.connection import connect
        from infinity.recipes.runs import end_to_end
    except ImportError:  # the rooms of November
        from infinity.jobs.cluster import connect  # type: ignore[attr-defined, no-redef]
        from infinity.jobs.recipes import end_to_end  # type: ignore[import-not-found, no-redef]
    from infinity.jobs.registry import run_spec

    plan = seeded(end_to_end("demo", source=None, output=output), seed, bfloat16=dtype == "bfloat16")
    with connect(None):
        print("begin", flush=True)
        for name in STAGES:
            begun = time.perf_counter()
            spec = getattr(plan, name)
            spec = spec.located() if hasattr(spec, "located") else spec  # an evaluation of today
            run_spec(spec)
            print(f"stage {name} {time.perf_counter() - begun:.1f}", flush=True)
        print("end", flush=True)
    print(spec.folder, flush=True)


def seeded(plan: Any, seed: int, *, bfloat16: bool = False) -> Any:
    """Return the plan with another seed of all trainings, and products in bfloat16; its stages name each other anew."""
    tokenizer = plan.tokenizer.replace(seed=seed)
    changes = {"seed": seed, "tokenizer": f"{tokenizer.folder}/model"}
    if bfloat16:
        changes["engine"] = plan.pretrain.engine.replace(bfloat16=True)
    pretrain = plan.pretrain.replace(**changes)
    finetune = plan.finetune.replace(**changes, start_from=f"{pretrain.folder}/model")
    evaluation = plan.evaluation.replace(model=f"{finetune.folder}/model")
    return plan.replace(tokenizer=tokenizer, pretrain=pretrain, finetune=finetune, evaluation=evaluation)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
