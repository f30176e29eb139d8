"""The watermark in the bits: what survives decoding and changes of a picture, false alarms, and what it costs.

    python -m benchmarks.drawn.watermark runs/demo --others ../shared/data/noto_emoji/images --count 100000

Strengths are compared with none by scene-GenEval. For every change of a picture it prints how many marked pictures are
found at p <= 1e-6 by the key that drew them (three keys), and the share of differing pairs that agree with the key.
From this share follows how many pairs a picture needs. False alarms are counted over pictures that no model drew:
random views of the pictures of a folder, under the same three keys.
"""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.measuring.scenes import SceneVerdicts, drawing_parser, in_words, sampling_of
from infinity import InfinityPipeline
from infinity.generation.sampling import SamplingConfig
from infinity.generation.watermark import BitWatermark, WatermarkDetector, WatermarkKey, WatermarkTest
from infinity.generation.watermark.detection import labels_tests
from infinity.tokenizer.pixels import to_pixels

KEYS = tuple(WatermarkKey(f"measured watermark key {number}".encode()) for number in range(3))
_BATCH = 64


def _as_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=75)
    return Image.open(file).convert("RGB")


def _cut(image: Image.Image) -> Image.Image:
    width, height = (round(0.05 * side) for side in image.size)
    return image.crop((width, 0, image.width, image.height - height))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda image: image,
    "JPEG 75": _as_jpeg,
    "5 % crop": _cut,
    "3/4 size": lambda image: image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.BICUBIC),
}
"""What happens to a picture between drawing and test."""


def pairs_needed(green_share: float, log10_p: float = -6.0) -> float:
    """Return about how many differing pairs give a p-value when this share of them agrees with the key."""
    if green_share <= 0.5:
        return math.inf
    return -log10_p * math.log(10) / (2.0 * (green_share - 0.5) ** 2)  # Hoeffding's bound, near to the exact test


def told(name: str, tests: Sequence[WatermarkTest]) -> str:
    """Return a line about the tests of several pictures."""
    green, pairs = sum(test.green for test in tests), sum(test.pairs for test in tests)
    share, found = green / max(1, pairs), sum(test.is_found() for test in tests)
    median = float(np.median([test.log10_p for test in tests]))
    return (
        f"  {name}: found {found} of {len(tests)}, median log10 p {median:.1f}, {share:.3f} of "
        f"{pairs / len(tests):.0f} differing pairs agree, 1e-6 needs about {pairs_needed(share):,.0f}"
    )


def other_views(folder: Path, count: int, size_px: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield random views of the pictures of a folder: cut, turned, mirrored, on random grounds."""
    numbers = np.random.default_rng(seed)
    sources = [Image.open(path).convert("RGBA").resize((128, 128)) for path in sorted(folder.rglob("*.png"))[:2000]]
    if not sources:
        raise SystemExit(f"{folder}: expected PNG files, found none")
    for _ in range(count):
        image = sources[int(numbers.integers(len(sources)))].rotate(float(numbers.uniform(0, 360)))
        side = int(numbers.integers(40, 129))
        left, top = (int(each) for each in numbers.integers(0, 129 - side, 2))
        ground = Image.new("RGBA", image.size, (*(int(each) for each in numbers.integers(0, 256, 3)), 255))
        view = Image.alpha_composite(ground, image).convert("RGB").crop((left, top, left + side, top + side))
        yield np.asarray(view.resize((size_px, size_px), Image.Resampling.BILINEAR))


@torch.no_grad()
def false_alarms(pipe: InfinityPipeline, views: Iterator[np.ndarray]) -> dict[str, list[float]]:
    """Return log10 of the p-values of pictures that are not ours, by the name of the key."""
    found: dict[str, list[float]] = defaultdict(list)
    pipeline = pipe.pipeline
    schedule = pipeline.config.resolution.schedule(1.0)
    while batch := [view for _, view in zip(range(_BATCH), views, strict=False)]:
        pixels = to_pixels(torch.from_numpy(np.stack(batch)), pipe.device)
        labels = pipeline.tokenizer.quantize(pipeline.tokenizer.encode(pixels), schedule).labels
        for key in KEYS:
            found[key.id] += [test.log10_p for test in labels_tests(key, labels)]
    return dict(found)


def measure_strength(
    pipe: InfinityPipeline, verdicts: SceneVerdicts, strength: float, sampling: SamplingConfig
) -> None:
    """Draw every caption once per key, judge the pictures, change them, and print what is found."""
    judged: list[tuple[str, float]] = []
    tests: dict[str, list[WatermarkTest]] = defaultdict(list)
    for number, key in enumerate(KEYS):
        pipe.watermark = BitWatermark(key, strength) if strength else None
        seeds = [number] * len(verdicts.captions)
        drawn = pipe.draw(verdicts.captions, seeds, sampling, output_type="np", batch_size=32)
        judged += list(zip(verdicts.captions, verdicts(list(drawn.pixels()), verdicts.captions), strict=True))
        tests["bits themselves"] += labels_tests(key, drawn.bits)
        detector = WatermarkDetector(pipe.pipeline.tokenizer, pipe.pipeline.config.resolution, key)
        for name, change in CHANGES.items():
            crops = (0.05,) if "crop" in name else ()
            tests[name] += [detector.test(change(Image.fromarray(image)), crops) for image in drawn.pixels()]
    print(f"strength {strength:g}: scene-GenEval {in_words(verdicts.score(judged))}")
    for name, some in tests.items():
        print(told(name, some), flush=True)


def main() -> None:
    """Read the arguments, measure, and print."""
    parser = drawing_parser(__doc__, guidance=2.0, temperature=1.0)
    parser.add_argument("--strengths", type=float, nargs="*", default=[0.0, 2.0, 4.0, 8.0])
    parser.add_argument("--per-task", type=int, help="captions per task; all 121 captions if left out")
    parser.add_argument("--others", type=Path, help="folder of PNG files that are not ours")
    parser.add_argument("--count", type=int, default=100_000, help="views of them")
    given = parser.parse_args()
    pipe = InfinityPipeline.from_pretrained(given.model, device="cpu")
    if given.others is not None:
        side = pipe.pipeline.config.resolution.schedule(1.0).image_size_px(pipe.pipeline.tokenizer.config.stride_px)[0]
        for name, found in false_alarms(pipe, other_views(given.others, given.count, side)).items():
            counts = ", ".join(f"{sum(p <= -level for p in found)} at 1e-{level}" for level in (2, 3, 4, 5, 6))
            print(f"key {name}: of {len(found):,} pictures that are not ours {counts}", flush=True)
    verdicts = SceneVerdicts(given.per_task)
    sampling = sampling_of(given)
    for strength in given.strengths:
        measure_strength(pipe, verdicts, strength, sampling)


if __name__ == "__main__":
    main()
