"""Train a model further on your own pictures, all weights or low-rank adapters (LoRA), and draw with the result.

    python examples/finetune.py MODEL PICTURES

MODEL is a model folder: one that was trained here, or published weights after ``infinity published import-...``.
PICTURES are captioned pictures in any form that ``examples/emoji.py`` names.
"""

import sys

from infinity import BuildDatasetSpec, InfinityPipeline, run_spec
from infinity.jobs.cluster.connection import connect
from infinity.jobs.dataset.build import fingerprint
from infinity.recipes.paper_transformer import FinetuneInputs, TransformerInputs, finetune_spec


def main(
    model: str, pictures: str, output: str = "runs/finetuned", *, num_steps: int = 500, batch_size: int = 16
) -> str:
    """Build a data set, train adapters on it and return the folder of the finetuned model."""
    # The fingerprint of the source is part of the spec, so that a changed folder makes another data set.
    dataset = BuildDatasetSpec(output=output, source=pictures, fingerprint=fingerprint(pictures))

    with connect():
        manifest = run_spec(dataset).manifest

        # Shape, tokenizer, text encoder and resolution are those of the model; the learning rate is the paper's last.
        inputs = TransformerInputs(
            manifests=(manifest,),
            tokenizer=f"{model}/tokenizer",
            output=output,
            start_from=model,
            num_workers=1,
            part_size=4,  # pictures that are computed at once; a batch is summed over micro-batches of this size
        )
        how = FinetuneInputs(num_steps=num_steps, batch_size=batch_size, rank=8, use_gpu=False)
        spec = finetune_spec(inputs, how)

        # Adapters bear a higher rate than all weights. The digest of the spec names the folder of the result.
        spec = spec.replace(optimizer=spec.optimizer.replace(learning_rate=1e-3))
        report = run_spec(spec)

    print(f"trained in {report.seconds:.0f} s: {report.model}")
    pipe = InfinityPipeline.from_pretrained(report.model)  # adapters are merged into plain weights
    pipe("a photo of a red circle").images[0].save(f"{output}/finetuned.png")
    return report.model


if __name__ == "__main__":
    main(*sys.argv[1:])
