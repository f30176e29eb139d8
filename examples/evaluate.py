"""Score a model on the held-out pictures of a data set, with confidence intervals.

    python examples/evaluate.py MODEL MANIFEST

MODEL is a model folder; MANIFEST is the ``manifest.parquet`` of a data set's folder. FID, GenEval, DPG-Bench, CLIP
score, ImageReward and HPSv2 are further fields of ``EvaluateSpec``; they need the weights of public networks.
"""

import sys

from infinity import EvaluateSpec, SamplingConfig, run_spec
from infinity.evaluation.drawings import SampleBenchmark
from infinity.evaluation.reconstruction.benchmark import ReconstructionBenchmark
from infinity.evaluation.validation import ValidationBenchmark
from infinity.jobs.cluster.connection import connect


def main(model: str, manifest: str, output: str = "runs/scores", num_pictures: int = 256) -> dict[str, float | None]:
    """Return the figures by name."""
    spec = EvaluateSpec(
        output=output,
        model=model,
        manifest=manifest,
        # Tokenizer alone: picture -> bits -> picture (PSNR, SSIM).
        reconstruction=ReconstructionBenchmark(num_pictures=num_pictures),
        # Transformer: cross-entropy and accuracy of bits that it was not trained on.
        validation=ValidationBenchmark(num_pictures=num_pictures, self_correction=0.2),
        # Drawings for captions, to look at.
        samples=SampleBenchmark(num_pictures=min(16, num_pictures)),
        sampling=SamplingConfig(guidance=2.0, temperature=0.5),
    )
    with connect():
        report = run_spec(spec)  # a finished evaluation is read back, unless its inputs changed

    for score in report.scores:
        interval = "" if score.low is None else f"  95 % interval {score.low:.4g} to {score.high:.4g}"
        value = "not measured" if score.value is None else f"{score.value:.4g} {score.unit}"
        print(f"{score.metric:32} {value}  n={score.n}{interval}  {score.note}")
    for name, sheet in report.pictures.items():
        print(f"{name}: {sheet.image}")
    return {score.metric: score.value for score in report.scores}


if __name__ == "__main__":
    main(*sys.argv[1:])
