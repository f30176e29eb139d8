"""Seconds and most memory of one training step of a tokenizer: plain, and with each term of the published recipe.

``python -m benchmarks.training.tokenizer_training --size-px 256 --width 128``: one JSON line a variant, each in a
process of its own, float32 on the processor. LPIPS and discriminator have random weights, which cost what trained ones
cost.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics

import torch

from benchmarks.measuring.timing import apart, largest_mb, seconds_of
from infinity.perception.lpips import Lpips
from infinity.scales import Resolution
from infinity.tokenizer.tokenizer import Tokenizer, TokenizerConfig
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.learner import LoopConfig
from infinity.training.loaders.pictures import PictureBatch
from infinity.training.optimizers.optimizer import OptimizerConfig, make_optimizer
from infinity.training.state import TrainState
from infinity.training.step import TrainStep
from infinity.training.tokenizer.collapse import CollapseConfig
from infinity.training.tokenizer.discriminator import AdversarialConfig, PatchDiscriminator, adversary_of
from infinity.training.tokenizer.objective import TokenizerLosses, TokenizerTask

VARIANTS = ("plain", "dense", "truncated", "lpips", "discriminator", "all")
RATE = OptimizerConfig(learning_rate=1e-5)


def step_of(variant: str, size_px: int, width: int, num_bits: int) -> TrainStep[PictureBatch]:
    """Return one training, ready for steps; everything is drawn from fixed seeds."""
    generator = torch.Generator().manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig(num_bits=num_bits, base_width=width))
    tokenizer.init_weights(generator)
    has = {name: variant in (name, "all") for name in VARIANTS}
    adversary = None
    if has["discriminator"]:
        discriminator = PatchDiscriminator(AdversarialConfig(optimizer=RATE))
        discriminator.init_weights(generator)
        adversary = adversary_of(discriminator)
    losses = TokenizerLosses(truncated=0.5 if has["truncated"] else 0.0)
    task = TokenizerTask(
        tokenizer,
        losses,
        CollapseConfig(),
        perceptual=(1.0, Lpips("vgg16")) if has["lpips"] else None,
        adversary=adversary,
    )
    state = TrainState(tokenizer, make_optimizer(tokenizer, RATE), adversary=adversary)
    return TrainStep(state, task, LoopConfig(num_steps=100, batch_size=1), RATE, 0, ProcessGroup())


def batch(variant: str, size_px: int) -> PictureBatch:
    """Return one picture of noise."""
    side = size_px // 16
    sides = (*(n for n in (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64) if n < side), side)
    schedule = Resolution(sides=sides, dense=variant in ("dense", "all")).schedule(1.0)
    pixels = torch.randint(256, (1, size_px, size_px, 3), generator=torch.Generator().manual_seed(1))
    return PictureBatch(("noise",), (0,), schedule, pixels.to(torch.uint8), 1)


def measure(variant: str, size_px: int, width: int, num_bits: int, threads: int, repeats: int) -> dict[str, object]:
    """Return median wall-clock and processor seconds per step after a first one, and the most memory of the process."""
    torch.set_num_threads(threads)
    update, part = step_of(variant, size_px, width, num_bits), batch(variant, size_px)

    def step() -> None:
        if (skipped := update([part], measured=False)) is not None:
            raise RuntimeError(f"a step was skipped: {skipped}")

    pairs = [seconds_of(step) for _ in range(repeats + 1)]
    return {
        "variant": variant,
        "size_px": size_px,
        "width": width,
        "num_bits": num_bits,
        "median_s": round(statistics.median(wall for wall, _ in pairs[1:]), 3),
        "median_cpu_s": round(statistics.median(busy for _, busy in pairs[1:]), 3),
        "peak_mib": round(largest_mb()),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Print a line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default=",".join(VARIANTS), help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--size-px", type=int, default=256, help="side of the picture (256)")
    parser.add_argument("--width", type=int, default=128, help="base width of the tokenizer (128)")
    parser.add_argument("--num-bits", type=int, default=32, help="bits of a position (32)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (1)")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps of each variant (3)")
    args = parser.parse_args()
    names = args.variants.split(",")
    if unknown := set(names) - set(VARIANTS):
        raise SystemExit(f"unknown {sorted(unknown)}; there are {', '.join(VARIANTS)}")
    sizes = (args.size_px, args.width, args.num_bits)
    for name in names:  # each in its own process, since the most memory of a process never falls
        print(json.dumps(apart(measure, name, *sizes, args.threads, args.repeats)), flush=True)


if __name__ == "__main__":
    main()
