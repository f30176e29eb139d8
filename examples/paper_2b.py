"""Plan the training of the paper's 2B model: the specs of all stages, and what each needs per GPU.

    python examples/paper_2b.py MANIFEST

Nothing is trained here. The specs are written as files; on a cluster, ``infinity run FILE`` trains a stage.
"""

import json
import sys
from pathlib import Path

from infinity.jobs.estimate.estimate import Assumptions, estimate
from infinity.presets import tokenizer_preset
from infinity.recipes.paper_tokenizer import TokenizerInputs, tokenizer_recipe
from infinity.recipes.paper_transformer import TransformerInputs, paper_stages


def main(
    manifest: str, output: str = "runs/paper-2b", *, model: str = "2B-released", num_workers: int = 64, bits: int = 32
) -> list[Path]:
    """Write a spec file for every stage and print memory and time; return the files."""
    # The tokenizer: the published recipe at 256 px, then at 256, 512 and 1024 px, on 32 GPUs.
    first = tokenizer_recipe("paper-1", TokenizerInputs(manifest=manifest, output=output, num_bits=bits))
    inputs = TokenizerInputs(manifest=manifest, output=output, num_bits=bits, start_from=f"{first.folder}/model")
    second = tokenizer_recipe("paper-2", inputs)

    # The transformer: 256, 512 and 1024 px (paper 4.2), with FSDP2, activation checkpointing and bfloat16.
    stages = paper_stages(
        TransformerInputs(
            manifests=(manifest,),
            tokenizer=f"{second.folder}/model",
            output=output,
            model=model,
            num_workers=num_workers,
        )
    )
    files = []
    for spec in (first, second, *stages):
        files.append(Path(output) / f"{spec.stage}.json")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        files[-1].write_text(json.dumps(spec.to_file(), indent=2))

    # One step of each transformer stage is traced without memory; 250 Tflop/s is a good rate of an H100 in practice.
    for spec in stages:
        needs = estimate(spec, Assumptions(flops_per_s=250e12), tokenizer=tokenizer_preset(f"d{bits}"))
        days = (needs.seconds_per_step or 0.0) * needs.num_steps / 86_400
        print(f"{spec.stage}: {needs.device_bytes / 1e9:.0f} GB per GPU, {days:.0f} days on {num_workers} GPUs")
    return files


if __name__ == "__main__":
    main(sys.argv[1])
