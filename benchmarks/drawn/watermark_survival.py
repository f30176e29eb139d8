"""Which bits of a drawing come back when the picture is encoded: per scale, as hard bits and as soft decisions.

    python -m benchmarks.drawn.watermark_survival runs/demo --strength 4

A watermark can live only in pairs of bits that the model leaves open and that come back. For each scale it prints how
many bits come back; the share of differing pairs that agree with the key as they were drawn and as they came back; and
z, the sum of signs times soft differences over its standard deviation under random keys, averaged over pictures. The
soft differences are those of the encoder's features, and those of features that gradient descent finds for the picture,
which shows what the pixels hold at all. exp(-z**2 / 2) bounds the p-value of one picture: 1e-6 needs a z of 5.3.
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from benchmarks.measuring.scenes import SceneVerdicts
from infinity import InfinityPipeline, Tokenizer
from infinity.bits import BitLabels
from infinity.generation.sampling import SamplingConfig
from infinity.generation.watermark import BitWatermark, WatermarkKey
from infinity.generation.watermark.pattern import count_pairs, pair_signs
from infinity.scales import ScaleSchedule
from infinity.tokenizer.pixels import to_pixels
from infinity.tokenizer.residual import shrink

KEY = WatermarkKey(b"measured watermark key number 0")


@dataclass(frozen=True, slots=True)
class ScaleSurvival:
    """What came back of one scale.

    Attributes:
        survived: Share of the bits that are equal.
        green_drawn: Share of the differing pairs that agree with the key in the drawn bits; NaN without such pairs.
        green_found: The same of the bits that came back.
    """

    survived: float
    green_drawn: float
    green_found: float


def compare(key: WatermarkKey, drawn: BitLabels, found: BitLabels) -> list[ScaleSurvival]:
    """Compare drawn bits with those that came back, scale by scale."""
    rows = []
    for scale in range(drawn.schedule.num_scales):
        before, after = drawn.scale(scale), found.scale(scale)
        shares = []
        for bits in (before, after):
            green, pairs = count_pairs(key, bits, scale)
            shares.append(float(green.sum()) / float(pairs.sum()) if int(pairs.sum()) else float("nan"))
        rows.append(ScaleSurvival(float((before == after).float().mean()), *shares))
    return rows


def soft_scores(key: WatermarkKey, features: Float[Tensor, "B C H W"], schedule: ScaleSchedule) -> list[float]:
    """Return the mean z of every scale: about 0 for pictures without the watermark."""
    found = []
    for scale, grid in enumerate(schedule.grids):
        maps, columns = shrink(features, grid).permute(0, 2, 3, 1), grid[1] // 2 * 2
        if columns == 0:
            found.append(0.0)
            continue
        differences = (maps[:, :, 0:columns:2] - maps[:, :, 1:columns:2]).flatten(1)
        signs = pair_signs(key, grid, scale, maps.shape[-1]).float().flatten()
        found.append(float(((differences @ signs) / differences.norm(dim=1).clamp_min(1e-12)).mean()))
    return found


def inverted(tokenizer: Tokenizer, pixels: Tensor, start: Tensor, steps: int) -> Tensor:
    """Return features that decode to the pixels, as near as Adam comes from a start."""
    features = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([features], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        (tokenizer.decoder(features) - pixels).square().sum().backward()
        optimizer.step()
    return features.detach()


def _jpeg(pixels: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file).convert("RGB"))


def main() -> None:
    """Read the arguments, draw, encode, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--strength", type=float, default=4.0)
    parser.add_argument("--per-task", type=int, default=4, help="captions per task")
    parser.add_argument("--steps", type=int, default=300, help="steps of the gradient descent")
    given = parser.parse_args()
    pipe = InfinityPipeline.from_pretrained(given.model, device="cpu")
    pipe.watermark = BitWatermark(KEY, given.strength)
    tokenizer, captions = pipe.pipeline.tokenizer.requires_grad_(False), SceneVerdicts(given.per_task).captions
    drawn = pipe.draw(captions, [0] * len(captions), SamplingConfig(guidance=2.0), output_type="np", batch_size=24)
    schedule = drawn.bits.schedule
    if tokenizer.config.fold:
        raise SystemExit(f"{given.model}: soft decisions of a tokenizer that folds positions are not measured")
    print(f"z as drawn, per scale: {_told(soft_scores(KEY, tokenizer.sum_codes(drawn.bits), schedule))}")
    for name, pictures in (("PNG", drawn.pixels()), ("JPEG 75", np.stack([_jpeg(each) for each in drawn.pixels()]))):
        pixels = to_pixels(torch.from_numpy(pictures), "cpu")
        features = tokenizer.encode(pixels).detach()
        found = tokenizer.quantize(features, schedule)
        for scale, row in enumerate(compare(KEY, drawn.bits, found.labels)):
            print(
                f"{name}, scale {scale} {schedule.grids[scale]}: {row.survived:.2f} of the bits come back; agreeing "
                f"{row.green_drawn:.3f} as drawn, {row.green_found:.3f} as they came back"
            )
        print(f"{name}: z of the encoder's features {_told(soft_scores(KEY, features, schedule))}")
        best = inverted(tokenizer, pixels, found.summed_BCHW, given.steps)
        print(f"{name}: z of inverted features {_told(soft_scores(KEY, best, schedule))}")


def _told(scores: list[float]) -> str:
    return ", ".join(f"{score:.1f}" for score in scores)


if __name__ == "__main__":
    main()
