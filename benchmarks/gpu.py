"""Training of a large transformer on one GPU, with random weights and made-up latents: one JSON line per case.

``python -m benchmarks.gpu`` on a machine with a CUDA device (torch 2.7 or later; a part of the cases is picked with
``--groups``): seconds per step, tokens and pictures per second, utilisation (MFU, of 790 TFLOP/s in bfloat16 unless
``--peak-tflops`` says otherwise) and largest memory for

* size: the 256, 512 and 1024 classes, as the paper trains them (activation checkpointing);
* attention: FlexAttention, one dense mask, a call for every scale, at the 1024 class;
* compile: blocks as they are and compiled;
* finetune: LoRA, all weights, all weights with 8-bit means, at the 1024 class with 4 pictures.

Every case runs in a process of its own, so that memory is its own and a case that does not fit costs only itself.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from infinity.jobs.estimate.estimate import peak_bytes
from infinity.jobs.estimate.rehearsal import Load, rehearse
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.presets import transformer_preset
from infinity.recipes.paper_transformer import TransformerInputs, paper_stages
from infinity.scales import Resolution, Size
from infinity.text import BuiltinTextConfig
from infinity.tokenizer.tokenizer import TokenizerConfig
from infinity.training.flops import training_flops
from infinity.training.transformer.adapters import AdapterConfig

SIZES: tuple[Size, ...] = ("256", "512", "1024")
TEXT_TOKENS = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One thing to time.

    Attributes:
        group: Question that the case belongs to.
        name: Name of the case.
        spec: The training.
        batch_size: Pictures of a step.
    """

    group: str
    name: str
    spec: TrainTransformerSpec
    batch_size: int


def cases(model: str, largest: Size = "1024", batch_size: int = 4) -> list[Case]:
    """Return every case for a named transformer.

    Args:
        model: Name of the transformer's layout.
        largest: Class of attention, compile and finetune.
        batch_size: Pictures at that class; smaller classes take as many more as have about as many tokens.
    """
    plain, top = _spec(model, largest), largest

    def case(group: str, name: str, spec: TrainTransformerSpec, number: int = batch_size) -> Case:
        return Case(group=group, name=name, spec=spec, batch_size=number)

    more = {"256": 16, "512": 4, "768": 2, "1024": 1}
    found = [
        case("size", f"{size}-class", _spec(model, size), batch_size * more[size] // more[top])
        for size in SIZES[: SIZES.index(top) + 1]
    ]
    for kernel in ("flex", "dense", "windows"):
        found.append(case("attention", kernel, plain.replace(engine=plain.engine.replace(attention=kernel))))
    for compiled in (False, True):
        engine = plain.engine.replace(compile=compiled)
        found.append(case("compile", "compiled" if compiled else "eager", plain.replace(engine=engine)))
    eight_bit = plain.replace(optimizer=plain.optimizer.replace(states="8bit"))
    lora = plain.replace(adapters=AdapterConfig(rank=16), start_from="start")
    for name, spec in (("lora", lora), ("full", plain), ("full-8bit", eight_bit)):
        found.append(case("finetune", name, spec))
    return found


def _spec(model: str, size: Size) -> TrainTransformerSpec:
    """Return a stage of the paper on one GPU, without averaged weights."""
    inputs = TransformerInputs(manifests=("none",), tokenizer="none", output="none", model=model, num_workers=1)
    spec = paper_stages(inputs)[0]
    config = transformer_preset(model)
    text = BuiltinTextConfig(channels=config.text_channels, max_tokens=min(TEXT_TOKENS, config.max_text_tokens))
    return spec.replace(
        resolution=Resolution(size=size),
        text=text,
        loop=spec.loop.replace(ema_decay=None),
        workers=spec.workers.replace(num_workers=1, shard=False, use_gpu=True),
    )


def run(case: Case, device: torch.device, *, repeats: int, peak_tflops: float) -> dict[str, Any]:
    """Time one case on this machine."""
    on_gpu = device.type == "cuda"
    spec, about = case.spec, {"group": case.group, "case": case.name, "batch": case.batch_size}
    schedule = spec.resolution.schedule(1.0)
    tokens = min(TEXT_TOKENS, spec.text.max_tokens)
    load = Load(schedule, case.batch_size, 1, tokens)
    tokenizer = TokenizerConfig(num_bits=spec.model.num_bits)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    try:
        rehearsal = rehearse(spec, load, tokenizer=tokenizer, device=device)
        first = _seconds(rehearsal.step, device)
        rehearsal.step()
        seconds = statistics.median(_seconds(rehearsal.step, device) for _ in range(repeats))
    except torch.OutOfMemoryError:
        return about | {"error": "out of memory"}
    flops = training_flops(spec.model, schedule, [tokens] * case.batch_size)
    trained = sum(weight.numel() for weight in rehearsal.update.weights)
    whole = spec.adapters is None
    return about | {
        "tokens": schedule.num_tokens,
        "seconds_per_step": seconds,
        "first_step_s": first,
        "tokens_per_s": case.batch_size * schedule.num_tokens / seconds,
        "pictures_per_s": case.batch_size / seconds,
        # Adapters need no gradients of the frozen weights: the figure would not be that of the others.
        "mfu": flops / seconds / (peak_tflops * 1e12) if whole else None,
        "memory_gb": (torch.cuda.max_memory_allocated(device) if on_gpu else peak_bytes()) / 1e9,
        "trained_parameters": trained,
        "kernel": spec.engine.attention if on_gpu else "windows on a CPU",
    }


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def main() -> None:
    """Parse the command line and print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="2B-released", help="named layout (2B-released)")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to see that a tiny layout runs (cuda)")
    parser.add_argument("--groups", help="of size, attention, compile, finetune; separated by commas (all)")
    parser.add_argument("--largest", default="1024", choices=SIZES, help="class of all groups but size (1024)")
    parser.add_argument("--batch", type=int, default=4, help="pictures of a step at that class (4)")
    parser.add_argument("--repeats", type=int, default=10, help="timed steps (10)")
    parser.add_argument("--peak-tflops", type=float, default=790.0, help="what full utilisation would be (790)")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; --device cpu --model tiny shows that the cases run")
    wanted = args.groups.split(",") if args.groups else None
    device = torch.device(args.device)
    name = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    for case in cases(args.model, args.largest, args.batch):
        if wanted is not None and case.group not in wanted:
            continue
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            settings = {"repeats": args.repeats, "peak_tflops": args.peak_tflops}
            found = pool.apply(run, (case, device), settings)
        print(json.dumps({"model": args.model, "device": name, "torch": torch.__version__, **found}), flush=True)


if __name__ == "__main__":
    main()
