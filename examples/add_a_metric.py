"""Add a metric to the evaluation: the brightness of drawings against that of the real pictures.

    python examples/add_a_metric.py MODEL MANIFEST

A metric splits its work into parts that any worker can do, and turns the sum of their states into figures. So one
worker or a hundred give the same figures, and an interrupted evaluation draws no picture twice.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from infinity import EvaluateSpec, Manifest, run_spec
from infinity.config import Config
from infinity.data.loading.batches import load_images
from infinity.evaluation import drawings
from infinity.evaluation.benchmark import BenchmarkResult, EvalContext, EvalTarget, RowBatch, batches, spread
from infinity.evaluation.mean_state import MeanState
from infinity.jobs.cluster.connection import connect


@dataclass(frozen=True, slots=True)
class BrightnessPart:
    """The work for a batch of captions of one aspect ratio."""

    batch: RowBatch

    @property
    def num_pictures(self) -> int:
        """Return the size of the work, for progress."""
        return len(self.batch.rows)

    def compute(self, context: EvalContext) -> MeanState:
        """Draw the captions and compare with the pictures that they describe; states of parts are added."""
        drawn = drawings.draw(context, self.batch)
        real = load_images(context.manifest, self.batch.rows, drawn.shape[1:3])
        return MeanState.of(np.abs(drawn.mean(axis=(1, 2, 3)) - real.mean(axis=(1, 2, 3))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Brightness(Config):
    """Mean difference of brightness, in levels of 0 to 255."""

    num_pictures: int = 64

    def parts(self, target: EvalTarget, manifest: Manifest) -> tuple[BrightnessPart, ...]:
        """Split the work by aspect ratio and batch size."""
        rows = spread(manifest, target.split, self.num_pictures)
        return tuple(BrightnessPart(batch) for batch in batches(manifest, rows, target.batch_size))

    def summarize(self, state: MeanState) -> BenchmarkResult:
        """Turn the sum of all states into a figure with its 95 % interval."""
        return BenchmarkResult(scores=(state.score("brightness.difference", "levels", protocol="brightness/1"),))


@dataclass(frozen=True, kw_only=True, slots=True)
class MyEvaluateSpec(EvaluateSpec):
    """The project's metrics and one more."""

    brightness: Brightness = field(default_factory=Brightness)

    def data_benchmarks(self) -> Iterator:
        """Measure brightness last."""
        yield from EvaluateSpec.data_benchmarks(self)
        yield "brightness", self.brightness


def main(model: str, manifest: str, output: str = "runs/brightness", num_pictures: int = 64) -> float | None:
    """Return the figure."""
    own = Brightness(num_pictures=num_pictures)
    spec = MyEvaluateSpec(output=output, model=model, manifest=manifest, brightness=own, validation=None)
    with connect():
        report = run_spec(spec)
    (score,) = (score for score in report.scores if score.metric == "brightness.difference")
    print(score)
    return score.value


if __name__ == "__main__":
    main(*sys.argv[1:])
