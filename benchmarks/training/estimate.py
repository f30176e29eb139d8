"""Estimates of memory and time beside what real processes take: one JSON line per configuration.

``python -m benchmarks.training.estimate``: every configuration is estimated (a traced step and a calibration), then
trained for some steps in a process of its own, whose largest memory is read from the system. The measured process also
stores its state in the background, as the loop does. ``--names`` picks some.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.measuring.timing import apart, seconds_of
from benchmarks.run.transformer import CONFIG
from infinity.jobs.estimate.estimate import Calibration, Estimate, calibrate, estimate, peak_bytes
from infinity.jobs.estimate.rehearsal import AnyTrainSpec, Load, rehearse
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.presets import tokenizer_preset, transformer_preset
from infinity.recipes.runs import end_to_end
from infinity.scales import Resolution
from infinity.text import BuiltinTextConfig
from infinity.tokenizer.tokenizer import TokenizerConfig
from infinity.training.checkpoints import StateStore
from infinity.training.transformer.engine import return_freed_memory

Configuration = tuple[AnyTrainSpec, TokenizerConfig | None]


def configurations() -> Mapping[str, Configuration]:
    """Return small trainings of both stages that differ in what takes memory and time."""
    demo = end_to_end("demo", source=None, output="runs")
    shape = demo.tokenizer.model
    workers = demo.pretrain.workers.replace(num_workers=1, threads=1)
    pretrain, tokenizer = demo.pretrain.replace(workers=workers), demo.tokenizer.replace(workers=workers)
    reference = reference_sized(pretrain)
    d32 = tokenizer_preset("d32")
    wide = shape.replace(base_width=48)
    small = transformer_preset("small")
    return {
        "demo-transformer": (pretrain, shape),
        "demo-tokenizer": (tokenizer, None),
        "reference-transformer": (reference, d32),
        "reference-recomputed": (reference.replace(recompute=True), d32),
        "reference-5-scales": (reference.replace(num_scales=5), d32),
        "reference-4-parts": (reference.replace(loop=reference.loop.replace(num_parts=4)), d32),
        "small-transformer": (
            pretrain.replace(
                model=small.replace(num_bits=shape.num_bits),
                text=BuiltinTextConfig(channels=small.text_channels, max_tokens=small.max_text_tokens),
                resolution=Resolution(sides=(1, 2, 4, 6, 8, 12)),
            ),
            shape,
        ),
        "wide-tokenizer-96px": (
            tokenizer.replace(model=wide, resolution=Resolution(sides=(1, 2, 4, 6, 8, 12))),
            None,
        ),
    }


def reference_sized(spec: TrainTransformerSpec) -> TrainTransformerSpec:
    """Return the training benchmark's sizes (`benchmarks.run.transformer`) as a training."""
    return spec.replace(
        model=CONFIG.replace(text_channels=512),
        text=BuiltinTextConfig(channels=512, max_tokens=32),
        resolution=Resolution(size="256"),
        loop=spec.loop.replace(batch_size=4, num_parts=1),
    )


def measure(spec: AnyTrainSpec, tokenizer: TokenizerConfig | None, num_steps: int) -> dict[str, float]:
    """Train in a process of its own, store the state beside a step, and return the memory."""
    torch.set_num_threads(spec.workers.threads)
    if getattr(spec, "recompute", False):
        return_freed_memory()
    load = Load.of(spec)
    rehearsal = rehearse(spec, load, tokenizer=tokenizer)
    wall, processor = zip(*(seconds_of(rehearsal.step) for _ in range(num_steps)), strict=True)
    of_a_step = peak_bytes()
    with tempfile.TemporaryDirectory() as folder:
        store = StateStore(folder)
        store.save(rehearsal.state)
        rehearsal.step()
        store.close()
    return {
        "wall_s": statistics.median(wall[1:]),
        "processor_s": statistics.median(processor[1:]),
        "step_bytes": of_a_step,
        "peak_bytes": peak_bytes(),
    }


def compare(name: str, configuration: Configuration, num_steps: int) -> dict[str, Any]:
    """Return estimated figures beside measured ones."""
    spec, tokenizer = configuration
    calibration: Calibration = calibrate(spec, tokenizer=tokenizer)
    guess: Estimate = estimate(spec, tokenizer=tokenizer, calibration=calibration)
    found = apart(measure, spec, tokenizer, num_steps)
    frozen = guess.frozen if tokenizer is not None else 0  # frozen models are not loaded here
    pairs = {
        "step_mb": ((guess.device_bytes - frozen) / 1e6, found["step_bytes"] / 1e6),
        "peak_mb": ((guess.total_bytes - frozen) / 1e6, found["peak_bytes"] / 1e6),
        "processor_s": (calibration.processor_seconds, found["processor_s"]),
        "wall_s": (guess.seconds_per_step or 0.0, found["wall_s"]),
    }
    return {
        "configuration": name,
        **{
            what: {"estimated": round(a, 3), "measured": round(b, 3), "off": round(a / b - 1, 3)}
            for what, (a, b) in pairs.items()
        },
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Parse the command line and print a line for each configuration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", help=f"of {', '.join(configurations())}; separated by commas")
    parser.add_argument("--steps", type=int, default=4, help="timed steps, the first is not counted (4)")
    args = parser.parse_args()
    known = configurations()
    for name in args.names.split(",") if args.names else known:
        if name not in known:
            raise SystemExit(f"unknown configuration {name!r}; there are {', '.join(known)}")
        print(json.dumps(compare(name, known[name], args.steps)), flush=True)


if __name__ == "__main__":
    main()
