"""Weights as int8, int4 and float8, keys and values as int8: bytes, scene-GenEval, other bits, seconds per picture.

    python -m benchmarks.drawn.quantized runs/demo

Products in float8 are emulated here. It also prints the bytes of the published 2B and 8B layouts, whose tensors are not
made.
"""

from __future__ import annotations

import time

import torch

from benchmarks.measuring.scenes import SceneVerdicts, drawing_parser, in_words, sampling_of
from infinity import InfinityPipeline
from infinity.generation.drawing.results import PipelineResult
from infinity.generation.memory import cache_bytes, stored_weights
from infinity.generation.sampling import SamplingConfig
from infinity.presets import transformer_preset
from infinity.transformer.cache import CacheForm
from infinity.transformer.number_formats.quantized import WEIGHT_FORMS, WeightForm, quantize_products, weight_bytes

_ARMS: tuple[tuple[WeightForm | None, CacheForm | None], ...] = (
    (None, None), ("int8", None), ("int4", None), ("float8", None), (None, "int8"), ("int4", "int8"),
)  # fmt: skip
"""Forms of the weights and of the cache."""
_LAYOUTS = ("2B-released", "8B-released")


def draw_all(
    pipe: InfinityPipeline, captions: list[str], sampling: SamplingConfig, count: int
) -> tuple[list[PipelineResult], float]:
    """Return ``count`` pictures per caption, batch by batch, and the seconds per picture."""
    started = time.perf_counter()
    results = [
        pipe.draw([caption] * count, list(range(count)), sampling, output_type="np", batch_size=count)
        for caption in captions
    ]  # fmt: skip
    return results, (time.perf_counter() - started) / (len(captions) * count)


def cached_kb(pipe: InfinityPipeline) -> float:
    """Return the 10³ bytes of the cached keys and values of one square picture with guidance."""
    config, pipeline = pipe.pipeline.transformer.config, pipe.pipeline
    return 2 * cache_bytes(config, pipeline.config.resolution.schedule(1.0), torch.float32, pipeline.cache) / 1e3


def main() -> None:
    """Read the arguments, draw with every kind of weights, and print a line for each."""
    parser = drawing_parser(__doc__, guidance=2.0, temperature=0.5)
    parser.add_argument("--count", type=int, default=4, help="pictures per caption")
    parser.add_argument("--per-task", type=int, help="captions per task; all 121 if left out")
    given = parser.parse_args()
    sampling = sampling_of(given)
    verdicts = SceneVerdicts(given.per_task)
    plain: list[PipelineResult] = []
    for kind, cache in _ARMS:
        pipe = InfinityPipeline.from_pretrained(given.model, device="cpu", cache=cache)
        if kind is not None:
            quantize_products(pipe.pipeline.transformer, kind)
        results, seconds = draw_all(pipe, verdicts.captions, sampling, given.count)
        plain = plain or results
        judged = [
            (prompt, verdict)
            for result in results
            for prompt, verdict in zip(result.prompts, verdicts(list(result.pixels()), result.prompts), strict=True)
        ]
        pairs = zip(results, plain, strict=True)
        other = sum(float((a.bits.bits_BLC != b.bits.bits_BLC).float().mean()) for a, b in pairs) / len(plain)
        megabytes = weight_bytes(pipe.pipeline.transformer) / 1e6
        print(
            f"weights {kind or 'float32'}, cache {cache or 'float32'}: {megabytes:.2f} MB, {cached_kb(pipe):.0f} kB of "
            f"keys and values per picture, scene-GenEval {in_words(verdicts.score(judged))}, "
            f"{other:.1%} other bits, {1000 * seconds:.0f} ms per picture",
            flush=True,
        )
    for name in _LAYOUTS:
        layout = transformer_preset(name)
        sizes = {
            kind: weight_bytes(stored_weights(layout, kind, torch.bfloat16)) / 1e9 for kind in (None, *WEIGHT_FORMS)
        }
        told = ", ".join(f"{kind or 'bfloat16'} {size:.2f} GB" for kind, size in sizes.items())
        print(f"{name}, transformer alone: {told}")


if __name__ == "__main__":
    main()
