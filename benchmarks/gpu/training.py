"""Measure a training step and the saving of a state."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch

from benchmarks.gpu.cases import TEXT_TOKENS, Case
from benchmarks.gpu.clock import Clock
from infinity.jobs.estimate.rehearsal import Load, Rehearsal, rehearse
from infinity.presets import tokenizer_preset
from infinity.training.checkpoints import StateStore
from infinity.training.flops import PEAKS, training_flops

PEAK_FLOPS = PEAKS["H200"]


def _rehearsed(case: Case, device: torch.device) -> tuple[Rehearsal, int]:
    assert case.spec is not None, "trainings have a spec"
    tokens = min(TEXT_TOKENS, case.spec.text.max_tokens)
    load = Load(case.spec.resolution.schedule(1.0), case.pictures, 1, tokens)
    tokenizer = tokenizer_preset(case.tokenizer)
    return rehearse(case.spec, load, tokenizer=tokenizer, device=device), tokens


def train(case: Case, device: torch.device, clock: Clock) -> dict[str, Any]:
    """Time steps: losses, gradients and update of one micro-batch."""
    assert case.spec is not None, "trainings have a spec"
    rehearsal, tokens = _rehearsed(case, device)
    figures = clock.measure(rehearsal.step)
    schedule, seconds = case.spec.resolution.schedule(1.0), figures["seconds"]
    flops = training_flops(case.spec.model, schedule, [tokens] * case.pictures)
    whole = case.spec.adapters is None
    return figures | {
        "tokens_per_s": case.pictures * schedule.num_tokens / seconds,
        # Adapters need no gradients of the frozen weights: the figure would not be that of the others.
        "mfu": flops / seconds / PEAK_FLOPS if whole else None,
    }


def save(case: Case, device: torch.device, clock: Clock) -> dict[str, Any]:
    """Time how long a training waits for a save, and how long the whole save takes."""
    rehearsal, _ = _rehearsed(case, device)
    rehearsal.step()
    with tempfile.TemporaryDirectory() as folder:
        store = StateStore(folder, background=True)
        clock.wait()
        started = time.perf_counter()
        store.save(rehearsal.state)
        waited = time.perf_counter() - started
        store.wait()
        figures = {"seconds": waited, "whole_s": time.perf_counter() - started, "memory_gb": clock.memory_gb()}
        store.close()
    return figures
