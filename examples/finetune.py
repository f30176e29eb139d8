"""Train a model further on your own pictures, all weights or low-rank adapters (LoRA), and draw with the result.

    python examples/finetune.py MODEL PICTURES

MODEL is a model folder: one that was trained here, or published weights after ``infinity published import-...``.
PICTURES are captioned pictures in any form that ``examples/emoji.py`` names.
"""

import sys

from infinity import BuildDatasetSpec, InfinityPipeline, run_spec
from infinity.jobs.cluster.connection import connect
from infinity.jobs.dataset.build import fingerprint
from infinity.recipes.finetuning import Finetuning


def main(
    model: str, pictures: str, output: str = "runs/finetuned", *, num_steps: int = 500, batch_size: int = 16
) -> str:
    """Build a data set, train adapters on it and return the folder of the finetuned model."""
    # The fingerprint of the source is part of the spec, so that a changed folder makes another data set.
    dataset = BuildDatasetSpec(output=output, source=pictures, fingerprint=fingerprint(pictures))

    # Shape, tokenizer, text encoder and resolution are those of the model. Adapters bear a higher rate than weights do.
    how = Finetuning(base=model, output=output, num_steps=num_steps, batch_size=batch_size, rank=8)

    with connect():
        # The digest of the spec names the folder of the result: what is done is found again.
        report = run_spec(how.spec(run_spec(dataset).manifest))

    print(f"trained in {report.seconds:.0f} s: {report.model}")
    pipe = InfinityPipeline.from_pretrained(report.model)  # adapters are merged into plain weights
    pipe("a photo of a red circle").images[0].save(f"{output}/finetuned.png")
    return report.model


if __name__ == "__main__":
    main(*sys.argv[1:])
