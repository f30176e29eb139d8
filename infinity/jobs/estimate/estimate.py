"""Estimate memory and time of a training before it runs: its own step on fake tensors, and a calibration run."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from infinity.checkpoint import MAX_FILE_BYTES
from infinity.config import Config
from infinity.data.memory import status_bytes
from infinity.jobs.cluster.heap import heap_of_workers
from infinity.jobs.estimate.rehearsal import AnyTrainSpec, Load, Rehearsal, rehearse
from infinity.jobs.estimate.tracing import Tracer, tracing
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.text import BuiltinTextConfig
from infinity.tokenizer.tokenizer import Tokenizer, TokenizerConfig
from infinity.training.flops import training_flops
from infinity.training.optimizers.eight_bit import opened
from infinity.training.transformer.engine import return_freed_memory

CACHE_BYTES = 2**31
"""Largest cache of features per worker (`infinity.training.loaders.latents`)."""

GPU_CONTEXT_BYTES = 600 * 2**20
"""Memory of CUDA, its libraries and the allocator's rounding, besides tensors."""

_NUM_TIMED = 5
"""Timed steps of a small training, after a first one."""
_LONGEST_S = 10.0
"""About the longest time for all timed steps together."""
_MOST_HEAP = 1.5
"""Largest credible loss of the heap; more is a disturbed measurement."""

FLAN_T5_XL_WEIGHTS = 1_222_000_000
"""Number of weights of the encoder half."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate(Config):
    """Peak memory of one worker in bytes, and the duration of a step.

    Attributes:
        weights: Trained weights, this worker's share.
        gradients: Gradients of the trained weights.
        optimizer: Moments of the optimizer.
        activations: Everything else alive at the peak of a step: activations, logits, gathered weights.
        logits: Logits, which ``activations`` includes; for information.
        frozen: Weights of the tokenizer, text encoder and networks of the losses, and cached features.
        saving: Copies on the CPU from which a stored state is written.
        process: Python, libraries and holes in the heap; on a GPU the CUDA context.
        seconds_per_step: Seconds per step; None without a calibration or a device's speed.
        flops_per_step: Floating-point operations of the whole batch over all workers, forward and backward.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    logits: int
    frozen: int
    saving: int
    process: int
    seconds_per_step: float | None
    flops_per_step: int
    num_steps: int

    @property
    def device_bytes(self) -> int:
        """Peak memory of a step on the computing device, without ``saving``."""
        held = self.weights + self.gradients + self.optimizer + self.average
        return held + self.activations + self.frozen + self.process

    @property
    def total_bytes(self) -> int:
        """Peak memory of a process on a CPU, when a state is saved during a step."""
        return self.device_bytes + self.saving


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration(Config):
    """Result of a short run on this machine.

    Attributes:
        process: Bytes of a training process besides its tensors.
        heap: Bytes of the process per byte of tensors, at least 1; holes in the heap cost memory too.
        seconds_per_step: Seconds per step of the training on this machine's CPU under its present load.
        processor_seconds: Processor seconds per step over all threads; other programs disturb them least.
    """

    process: int
    heap: float = 1.0
    seconds_per_step: float
    processor_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Assumptions(Config):
    """Facts that a spec does not contain.

    Attributes:
        aspect_ratio: Aspect ratio of the pictures, height over width; take the one with most tokens.
        text_tokens: Tokens per caption; None for the text encoder's maximum, up to 128.
        num_pictures: Pictures of the training split, for the cache of features.
        flops_per_s: FLOP/s that a device reaches in practice; None leaves the seconds to a calibration.
    """

    aspect_ratio: float = 1.0
    text_tokens: int | None = None
    num_pictures: int = 0
    flops_per_s: float | None = None


def estimate(
    spec: AnyTrainSpec,
    assumed: Assumptions | None = None,
    *,
    tokenizer: TokenizerConfig | None = None,
    calibration: Calibration | None = None,
) -> Estimate:
    """Estimate a training by tracing one step.

    Args:
        spec: Spec of either training; no file that it names is opened.
        assumed: Facts that the spec does not contain.
        tokenizer: Shape of a transformer's frozen tokenizer.
        calibration: Result of ``calibrate``; without it, process and heap count nothing on a CPU.

    Raises:
        ValueError: A transformer comes without the shape of its tokenizer.
    """
    assumed = assumed or Assumptions()
    if isinstance(spec, TrainTransformerSpec) and tokenizer is None:
        raise ValueError("estimate: a transformer needs the shape of its tokenizer")
    load = Load.of(spec, aspect_ratio=assumed.aspect_ratio, text_tokens=assumed.text_tokens)
    on_gpu = spec.workers.use_gpu
    with tracing() as trace:
        rehearsal = rehearse(spec, load, tokenizer=tokenizer, real=False, bfloat16=on_gpu)
        peak = _peak(trace, rehearsal)
        held = _held(rehearsal)
        flops = _flops(spec, load, rehearsal, trace)
    share = spec.workers.sharers
    kept = {name: -(-size // share) for name, size in held.items()}
    activations = max(0, peak - rehearsal.resting_bytes - sum(held.values()))
    if share > 1:
        activations += 2 * _unit(spec, held["weights"])  # FSDP gathers the unit in use and prefetches the next
    if share > 1 and spec.loop.sum_once:
        kept["gradients"] = held["gradients"]
    if spec.workers.keep_gathered:
        activations += held["weights"]  # at most: in bfloat16 it is about half
    stored = kept["weights"] + kept["optimizer"] + kept["average"]  # each worker stores its shard (decision 38)
    resting = set(kept) if spec.workers.offload else _on_cpu(spec)
    host = sum(kept[name] for name in resting)
    kept |= dict.fromkeys(resting, 0)
    saving = host + stored + 2 * min(stored, MAX_FILE_BYTES)
    seconds = calibration.seconds_per_step if calibration is not None else None
    if assumed.flops_per_s is not None:
        seconds = _seconds_at(spec, flops, assumed.flops_per_s)
    base = calibration.process + int((calibration.heap - 1) * peak) if calibration is not None else 0
    return Estimate(
        **kept,
        activations=activations,
        logits=_logits(spec, load),
        frozen=rehearsal.resting_bytes + _frozen(spec, tokenizer, load, assumed.num_pictures),
        saving=saving,
        process=GPU_CONTEXT_BYTES if on_gpu else base,
        seconds_per_step=seconds,
        flops_per_step=flops,
        num_steps=spec.loop.num_steps,
    )


def _on_cpu(spec: AnyTrainSpec) -> set[str]:
    """Return what of a training beside a GPU rests in the memory of the CPU."""
    on_cpu = {"average": spec.loop.ema_on_cpu, "optimizer": spec.optimizer.states_on_cpu}
    return {name for name, is_there in on_cpu.items() if is_there and spec.workers.use_gpu}


def seconds_at(spec: AnyTrainSpec, flops_per_s: float) -> float:
    """Return the seconds per step at a device's speed, as ``estimate`` does, without tracing the memory of a step.

    Args:
        spec: Spec of either training; no file that it names is opened.
        flops_per_s: FLOP/s that a device reaches in practice.
    """
    load = Load.of(spec)
    if isinstance(spec, TrainTransformerSpec):
        return _seconds_at(spec, _transformer_flops(spec, load), flops_per_s)
    with tracing() as trace:
        rehearsal = rehearse(spec, load, real=False, bfloat16=spec.workers.use_gpu)
        return _seconds_at(spec, _flops(spec, load, rehearsal, trace), flops_per_s)


def _seconds_at(spec: AnyTrainSpec, flops: int, flops_per_s: float) -> float:
    recomputed = 4 / 3 if getattr(spec, "recompute", False) else 1.0
    return recomputed * flops / spec.workers.num_workers / flops_per_s


def calibrate(
    spec: AnyTrainSpec, assumed: Assumptions | None = None, *, tokenizer: TokenizerConfig | None = None
) -> Calibration:
    """Time two reduced versions of the training in a process of its own, and extrapolate linearly.

    A reduced transformer has fewer blocks and the full sequence, a reduced tokenizer fewer pictures. The larger version
    has half as many as the training, fewer where that takes too long, at least three. The smaller version has half as
    many again. Memory is extrapolated linearly too: a constant per process, and a factor per byte of tensors.
    """
    assumed = assumed or Assumptions()
    load = Load.of(spec, aspect_ratio=assumed.aspect_ratio, text_tokens=assumed.text_tokens)
    units = load.part_size if isinstance(spec, TrainTokenizerSpec) else spec.model.depth
    context = multiprocessing.get_context("spawn")
    with heap_of_workers(), context.Pool(1) as pool:
        small, large = pool.apply(_run_reduced, (spec, load, tokenizer, units))
    per_unit = large.size - small.size
    wall, processor = (
        max(a + (b - a) / per_unit * (units - small.size), 1e-9)
        for a, b in ((small.wall_s, large.wall_s), (small.processor_s, large.processor_s))
    )
    traced = [_traced(*_reduced(spec, load, each.size), tokenizer) for each in (small, large)]
    heap = (large.taken - small.taken) / max(1, traced[1] - traced[0])
    heap = min(max(heap, 1.0), _MOST_HEAP)
    return Calibration(
        process=max(0, int(large.taken - heap * traced[1])),
        heap=heap,
        seconds_per_step=wall * load.num_parts,
        processor_seconds=processor * load.num_parts,
    )


def _reduced(spec: AnyTrainSpec, load: Load, size: int) -> tuple[AnyTrainSpec, Load]:
    one = Load(load.schedule, load.part_size, 1, load.text_tokens)
    if isinstance(spec, TrainTransformerSpec):
        return spec.replace(model=spec.model.replace(depth=size)), one
    return spec, Load(load.schedule, size, 1)


@dataclass(frozen=True, slots=True)
class _Ran:
    """Size of a reduced version (blocks or pictures), peak memory of the process so far, and seconds per step."""

    size: int
    taken: int
    wall_s: float
    processor_s: float


def _run_reduced(spec: AnyTrainSpec, load: Load, tokenizer: TokenizerConfig | None, units: int) -> tuple[_Ran, _Ran]:
    """Run the smaller reduced version, then the larger one; called in the other process."""
    torch.set_num_threads(spec.workers.threads)
    if getattr(spec, "recompute", False):
        return_freed_memory()  # as the training does with activation checkpointing; it costs time
    one = rehearse(*_reduced(spec, load, 1), tokenizer=tokenizer)
    one.step()
    fitting = int(_LONGEST_S / (_NUM_TIMED * _seconds(one)[0]))
    del one
    large = max(3, min(fitting, -(-units // 2)))
    return _ran(spec, load, tokenizer, large // 2), _ran(spec, load, tokenizer, large)


def _ran(spec: AnyTrainSpec, load: Load, tokenizer: TokenizerConfig | None, size: int) -> _Ran:
    rehearsal = rehearse(*_reduced(spec, load, size), tokenizer=tokenizer)
    rehearsal.step()
    wall, processor = zip(*(_seconds(rehearsal) for _ in range(_NUM_TIMED)), strict=True)
    return _Ran(size, peak_bytes(), statistics.median(wall), statistics.median(processor))


def _traced(spec: AnyTrainSpec, load: Load, tokenizer: TokenizerConfig | None) -> int:
    with tracing() as trace:
        return _peak(trace, rehearse(spec, load, tokenizer=tokenizer, real=False))


def _seconds(rehearsal: Rehearsal) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    rehearsal.step()
    return time.perf_counter() - wall, time.process_time() - processor


def peak_bytes() -> int:
    """Return the peak memory of this process in bytes.

    On Linux ``getrusage`` would include the memory of the parent process at the fork.
    """
    if sys.platform == "linux":
        return status_bytes("VmHWM")
    else:  # mypy skips this branch on Linux; without ``else`` it would call the code unreachable
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def _peak(trace: Tracer, rehearsal: Rehearsal) -> int:
    """Return the peak of the second step, which has the optimizer's moments from its beginning."""
    trace(rehearsal.step)
    return trace(rehearsal.step).peak_bytes


def _held(rehearsal: Rehearsal) -> dict[str, int]:
    """Return the bytes of weights, gradients, moments and averages, including those of a discriminator."""
    state = rehearsal.state
    modules = [state.module, *([state.adversary.module] if state.adversary is not None else [])]
    optimizers = [state.optimizer, *([state.adversary.optimizer] if state.adversary is not None else [])]
    weights = [value for module in modules for value in (*module.parameters(), *module.buffers())]
    trained = [weight for module in modules for weight in module.parameters() if weight.requires_grad]
    means = [value for each in optimizers for slots in each.state.values() for _, value in opened(slots)]
    return {
        "weights": _size(weights),
        "gradients": _size(trained),
        "optimizer": _size(means),
        "average": _size(state.ema.weights().values()) if state.ema is not None else 0,
    }


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(value.nbytes for value in tensors)


def _unit(spec: AnyTrainSpec, weights: int) -> int:
    """Return the bytes of the largest unit that FSDP gathers: a feed-forward has half of a block's weights."""
    return weights // (2 * spec.model.depth) if isinstance(spec, TrainTransformerSpec) else 0


def _flops(spec: AnyTrainSpec, load: Load, rehearsal: Rehearsal, trace: Tracer) -> int:
    if isinstance(spec, TrainTransformerSpec):
        return _transformer_flops(spec, load)
    return trace.flops(rehearsal.step) * spec.workers.num_workers


def _transformer_flops(spec: TrainTransformerSpec, load: Load) -> int:
    lengths = [load.text_tokens] * spec.loop.batch_size
    return training_flops(spec.model, spec.objective.trained(load.schedule), lengths)


def _logits(spec: AnyTrainSpec, load: Load) -> int:
    if isinstance(spec, TrainTokenizerSpec):
        return 0
    return load.part_size * spec.objective.trained(load.schedule).num_tokens * spec.model.num_outputs * 4


def _frozen(spec: AnyTrainSpec, tokenizer: TokenizerConfig | None, load: Load, num_pictures: int) -> int:
    """Return the bytes of the frozen models and of cached features."""
    if isinstance(spec, TrainTokenizerSpec) or tokenizer is None:
        return 0
    with torch.device("meta"):
        weights = sum(weight.nbytes for weight in Tokenizer(tokenizer).parameters())
    if spec.encoded is None and not isinstance(spec.text, BuiltinTextConfig):
        weights += FLAN_T5_XL_WEIGHTS * (4 if spec.text.dtype == "float32" else 2)
    rows, columns = load.schedule.last_grid
    features = num_pictures * rows * columns * tokenizer.token_bits * 4
    cached = features if features <= CACHE_BYTES and spec.augment.changes_nothing and spec.encoded is None else 0
    return weights + (0 if spec.workers.use_gpu else cached)
