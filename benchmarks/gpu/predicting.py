"""Predict what a GPU would measure, from work that is counted on a phantom card (``tests/phantom``).

Two depths are counted and extended linearly to the full depth. Seconds follow from the card's data sheet and the shares
of it that such kernels usually reach; they are a guess to compare the first measurement with.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.cases import Case
from benchmarks.gpu.training import PEAK_FLOPS
from infinity.presets import transformer_preset
from infinity.scales import Resolution
from infinity.training.flops import training_flops

REACHED = {"products": 0.65, "attention": 0.5, "bytes": 0.75}
"""Shares of the data sheet that large kernels usually reach."""
FLOAT32_FLOPS, BYTES_PER_S, LAUNCH_S = 67e12, 4.8e12, 5e-6
"""An H200's float32 FLOP/s and bytes per second, and the seconds in which the host starts a kernel."""
GRAPHED_LAUNCH_S = 2e-6
"""Seconds of the smallest kernel of a captured graph: a guess."""
TF32_FLOPS = 494e12
"""Its FLOP/s in TF32, which torch lets convolutions in float32 use unless it is told otherwise."""
HOST_BYTES_PER_S, COPY_S = 10e9, 20e-6
"""Bytes per second of a copy to memory of the host that is not pinned, and the seconds to start one: guesses."""

SCENARIOS = {"picture": "draw", "train": "train"}
LAYOUTS = {"2B-released": "2B", "8B-released": "8B"}

Work = Mapping[str, Any]


EAGER: Work = {"launches": 1.0, "moved": 1.0}
"""Shares of the eager launches and bytes that are left without a compiler: all."""


def seconds_of(work: Work, left: Work = EAGER, *, graphed: bool = False) -> float:
    """Return the predicted seconds of counted work: what the card needs or what the host needs, the longer of both.

    Args:
        work: Launches, bytes moved, and operations by data type.
        left: Shares of launches and of bytes that are left when a compiler fuses element-wise kernels.
        graphed: Whether a captured CUDA graph starts the kernels, so that the host is not waited for.
    """
    launches, moved = (work[what] * left[what] for what in ("launches", "moved"))
    half, full = (work["products"].get(kind, 0.0) for kind in ("bfloat16", "float32"))
    convolved = work.get("convolutions", {}).get("float32", 0.0)
    card = half / PEAK_FLOPS + (full - convolved) / FLOAT32_FLOPS + convolved / TF32_FLOPS
    card /= REACHED["products"]
    card += sum(work["attention"].values()) / (REACHED["attention"] * PEAK_FLOPS)
    card += moved / (REACHED["bytes"] * BYTES_PER_S)
    return float(max(card, launches * (GRAPHED_LAUNCH_S if graphed else LAUNCH_S)))


def at_depth(one: Work, two: Work, depth: int) -> dict[str, Any]:
    """Extend the work of one and two blocks to a full depth, in all its parts."""
    found: dict[str, Any] = {}
    for name, first in one.items():
        second = two[name]
        if isinstance(first, dict):
            found[name] = at_depth(first, second, depth)
        elif isinstance(first, int | float):
            found[name] = first + (depth - 1) * (second - first)
    return found


def counted(wanted: list[str]) -> dict[str, Any]:
    """Count scenarios of the phantom card in a process of its own.

    Raises:
        SystemExit: The phantom card cannot run here; the message says why.
    """
    command = [sys.executable, "-W", "ignore", "-m", "tests.phantom.scenarios", *wanted]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([".", *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode != 0:
        raise SystemExit(f"--phantom: needs a CPU build of torch and a C++ compiler: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def predict(case: Case, work: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that a measurement of the case would have.

    Args:
        case: Case of a published layout at the 1024 class.
        work: Counted scenarios by name.
    """
    if case.group not in SCENARIOS:
        return _predict_whole(case, work)
    scenario = "draw-trailing" if case.guidance_off else SCENARIOS[case.group]
    layout, config = LAYOUTS[case.model], transformer_preset(case.model)
    full = at_depth(work[f"{scenario}:{layout}:1"], work[f"{scenario}:{layout}:2"], config.depth)
    compiled = work[_compiled(case)] if _is_compiled(case) else None
    left = EAGER if compiled is None else fusion(compiled)
    if case.group == "train":
        assert case.spec is not None, "trainings have a spec"
        schedule = Resolution(size=case.size).schedule(1.0)
        seconds = seconds_of(full, left)
        flops = training_flops(config, schedule, [128] * case.pictures)
        kept = 0 if compiled is None else config.depth * compiled["kept"]  # beside what blocks without a compiler keep
        return {"seconds": seconds, "mfu": flops / seconds / PEAK_FLOPS, "memory_gb": (full["peak"] + kept) / 1e9}
    loop = full["coarse"], _minus(full["loop"], full["coarse"])
    coarse, late = (seconds_of(each, left, graphed=case.graphs) for each in loop)
    decoded = EAGER if compiled is None else fusion(work[f"compiled-decode:{layout}:1"])
    decoder = seconds_of(_minus(full, full["loop"]), decoded)
    return {
        "seconds": coarse + late + decoder,
        "graphed_s": sum(seconds_of(each, left, graphed=True) for each in loop) + decoder,
        "coarse_scales_s": coarse,
        "late_scales_s": late,
        "decoder_s": decoder,
        "memory_gb": full["peak"] / 1e9,
        "launches": full["launches"],
    }


def _predict_whole(case: Case, work: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a text encoder, a tokenizer or a save; the host waits for each tensor that it copies."""
    layout = LAYOUTS[case.model]
    if case.group == "save":
        depth = transformer_preset(case.model).depth
        one, two = (work[f"{_scenario(case)}:{layout}:{number}"] for number in (1, 2))
        full = at_depth(one, two, depth)
        return {
            "seconds": full["copied"] / HOST_BYTES_PER_S + full["tensors"] * COPY_S,
            "copied_gb": full["copied"] / 1e9,
        }
    found = work[f"{_scenario(case)}:{layout}:1"]
    seconds = seconds_of(found)
    return {
        "seconds": seconds,
        "seconds_per_picture": seconds / case.pictures,
        "memory_gb": found["peak"] / 1e9,
        "launches": found["launches"],
    }


def fusion(counted: Work) -> dict[str, float]:
    """Return the shares of one block's launches and bytes that are left after fusion.

    Args:
        counted: One block's work, "eager" and "compiled".
    """
    return {what: counted["compiled"][what] / number for what, number in counted["eager"].items()}


def _minus(more: Work, less: Work) -> dict[str, Any]:
    """Return the work between two moments."""
    found: dict[str, Any] = {}
    for name, value in less.items():
        if isinstance(value, dict):
            found[name] = {kind: more[name].get(kind, 0.0) - number for kind, number in value.items()}
            found[name] |= {kind: number for kind, number in more[name].items() if kind not in value}
        else:
            found[name] = more[name] - value
    return found


def print_predictions(wanted: list[Case], measured: Path) -> None:
    """Print predicted figures, beside the measured ones where a file of results has them.

    Args:
        wanted: Cases; those that cannot be counted are named.
        measured: File of results; it need not exist.
    """
    there = json.loads(measured.read_text())["cases"] if measured.exists() else {}
    predictable = [case for case in wanted if _is_predictable(case)]
    keys = sorted(
        {
            f"{_scenario(case)}:{LAYOUTS[case.model]}:{depth}"
            for case in predictable
            for depth in ((1,) if case.group in ("text", "encode", "decode") else (1, 2))
        }
    )
    keys += sorted({_compiled(case) for case in predictable if _is_compiled(case)})
    keys += sorted({f"compiled-decode:{LAYOUTS[case.model]}:1" for case in predictable if case.compiled})
    work = counted(keys) if keys else {}
    for case in wanted:
        line: dict[str, Any] = {"case": case.key}
        if case in predictable:
            line |= {name: round(value, 4) for name, value in predict(case, work).items()}
        else:
            line["predicted"] = None
        if case.key in there:
            line["measured"] = there[case.key]
        print(json.dumps(line), flush=True)


def _is_compiled(case: Case) -> bool:
    return case.compiled or (case.spec is not None and case.spec.engine.compile)


def _compiled(case: Case) -> str:
    """Return the scenario that counts one block as the compiler fuses it."""
    return f"compiled-{SCENARIOS[case.group]}:{LAYOUTS[case.model]}:1"


def _scenario(case: Case) -> str:
    if case.group == "save":
        return "save"
    if case.group in ("text", "encode", "decode"):
        in_float32 = case.group == "decode" and not case.bfloat16
        return f"{case.group}-{case.pictures}{'-f32' if in_float32 else ''}"
    return "draw-trailing" if case.guidance_off else SCENARIOS[case.group]


def _is_predictable(case: Case) -> bool:
    """Return whether the phantom counts this case: of pictures one, of training steps those of all weights."""
    if case.model not in LAYOUTS or (case.size != "1024" and case.group != "save"):
        return False
    if case.group not in SCENARIOS:
        return True
    if case.group == "picture":
        # The phantom card has no float8, and counts operations of attention, whatever kernel does them.
        return case.pictures == 1 and case.quantized is None and case.attention == "auto"
    return case.name in ("1024", "1024-compiled")
