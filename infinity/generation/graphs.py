"""Draw with captured CUDA graphs: the host starts all kernels of a scale by one call.

A graph repeats kernels on fixed memory. So the loop over scales is captured on memory of its own, one graph per scale
and form of call (sizes, guidance, data types). Whatever differs between two batches of one form is copied into that
memory before the graphs run: captions, and the random numbers that are drawn for all scales beforehand.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from infinity.generation.scale_loop import ScaleLoop
from infinity.transformer import Decoding, Transformer
from infinity.transformer.attention import TextMemory
from infinity.transformer.block import Modulation
from infinity.transformer.cache import KeyValueCache
from infinity.transformer.model import CaptionContext

logger = logging.getLogger(__name__)

MOST_FORMS = 2
"""Forms of call whose graphs, caches and buffers stay on the card at once; the oldest is given up for another."""

_CAPTION_TOKENS = 64
"""Captions are padded to multiples of this length, so that few lengths make forms of their own."""

_Result = TypeVar("_Result")
Passed = Callable[[int, Tensor], None]
"""Callback after each scale, with its number and the running sum of codes."""


class Recorder(Protocol):
    """What records kernels: CUDA graphs, or a stand-in."""

    device_type: str

    def record(self, work: Callable[[], _Result]) -> tuple[_Result, Callable[[], None]]:
        """Record the kernels of ``work``; return its result, and a function that runs the kernels again."""


class CudaRecorder:
    """Record CUDA graphs, which share one pool of memory, since only one of them runs at a time."""

    device_type = "cuda"

    def __init__(self) -> None:
        self._pool: object = None

    def record(self, work: Callable[[], _Result]) -> tuple[_Result, Callable[[], None]]:
        """Record the kernels of ``work``, which are not run.

        Raises:
            RuntimeError: The work does what a graph cannot hold, such as waiting for the card.
        """
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):  # type: ignore[arg-type]
            result = work()
        return result, graph.replay


@dataclass(frozen=True, slots=True, eq=False)
class _Captured:
    """Graphs of one form: fixed memory, results in it, and what runs the kernels of each scale."""

    loop: ScaleLoop
    caption: CaptionContext
    rotary: Tensor  # held, since the table of rotations forgets old schedules
    results: list[tuple[Tensor, Tensor]]
    replays: list[Callable[[], None]]
    places: tuple[int, ...]


class ScaleGraphs:
    """Captured graphs of one transformer.

    The first batch of a form runs without graphs, which also prepares libraries and compiled kernels; the second is
    captured. Where that fails, pictures are drawn without graphs from then on, and the log says why.
    """

    def __init__(self, recorder: Recorder) -> None:
        """Start without graphs.

        Args:
            recorder: What records the kernels.
        """
        self._recorder = recorder
        self._forms: dict[Hashable, _Captured | None] = {}
        self._refused = False
        self._busy = threading.Lock()

    def run(self, fresh: ScaleLoop, passed: Passed) -> list[tuple[Tensor, Tensor]] | None:
        """Run all scales of a batch by graphs.

        Args:
            fresh: Loop of the batch before its first scale; afterwards its running sum is complete.
            passed: Called after each scale.

        Returns:
            Bits of each scale, and whether all of its logits are finite; None where this batch needs to run without
            graphs.
        """
        device = fresh.transformer.start.device
        if not self._refused and device.type != self._recorder.device_type:
            self._refuse(f"they need a {self._recorder.device_type} device, the model is on {device.type}")
        if self._refused or not self._busy.acquire(blocking=False):  # another thread draws on the same memory
            return None
        try:
            captured = self._form(fresh)
            return None if captured is None else _replayed(captured, fresh, passed)
        finally:
            self._busy.release()

    def _form(self, fresh: ScaleLoop) -> _Captured | None:
        """Return the graphs of a batch's form; None where it is new, or cannot be captured."""
        key, places = _key(fresh), _places(fresh.transformer)
        is_new, captured = key not in self._forms, self._forms.pop(key, None)
        if captured is not None and captured.places != places:
            captured = None  # weights were moved or replaced
        if captured is None and not is_new:
            captured = self._capture(fresh, places)
        self._forms[key] = captured
        held = [form for form, graphs in self._forms.items() if graphs is not None]
        for form in held[:-MOST_FORMS]:
            self._forms[form] = None
        return captured

    def _capture(self, fresh: ScaleLoop, places: tuple[int, ...]) -> _Captured | None:
        kind = fresh.transformer.start.device.type
        is_cast, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        loop = _on_own_memory(fresh)
        caption, rotary = loop.decoding.caption, loop.transformer.rotary(loop.schedule)
        results, replays = [], []
        try:
            # Weights that autocast casts and keeps would be freed before the graphs run.
            with torch.autocast(kind, dtype, enabled=is_cast, cache_enabled=False):
                for k in range(loop.schedule.num_scales):
                    step, replay = self._recorder.record(partial(loop.advance, k))
                    results.append((step.bits, step.is_finite))
                    replays.append(replay)
        except RuntimeError as error:
            self._refuse(str(error))
            return None
        return _Captured(loop, caption, rotary, results, replays, places)

    def _refuse(self, reason: str) -> None:
        self._refused = True
        self._forms.clear()
        logger.warning("captured graphs: %.300s; pictures are drawn without them", reason)


_GRAPHS: WeakKeyDictionary[Transformer, ScaleGraphs] = WeakKeyDictionary()


def capture_scales(transformer: Transformer, recorder: Recorder | None = None) -> None:
    """Draw with captured graphs from now on.

    Bits differ by rounding from those without graphs, since captions are padded. Sampling that takes over bits, changes
    its prompt on the way, carries a watermark, leaves out tokens or keeps logits runs without graphs.

    Args:
        transformer: Transformer in evaluation mode.
        recorder: What records the kernels; None for CUDA.
    """
    _GRAPHS[transformer] = ScaleGraphs(recorder or CudaRecorder())


def graphs_of(transformer: Transformer) -> ScaleGraphs | None:
    """Return the captured graphs of a transformer; None for one that is drawn without."""
    return _GRAPHS.get(transformer)


def _key(fresh: ScaleLoop) -> Hashable:
    kind = fresh.transformer.start.device.type
    caption, sampling = fresh.decoding.caption, fresh.sampling
    return (
        fresh.schedule,
        fresh.plan,
        (sampling.greedy, sampling.nucleus),
        (len(caption.pooled_BD), _padded_length(caption)),
        (fresh.transformer.cache_form, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)),
    )


def _places(transformer: Transformer) -> tuple[int, ...]:
    """Return where all weights lie; graphs read them there, also after changes in place."""
    joined = [block.self_attention.joined for block in transformer.block_modules()]
    biases = [each.bias for each in joined if each is not None]
    return tuple(_place(weights) for weights in (*transformer.parameters(), *transformer.buffers(), *biases))


def _place(weights: Tensor) -> int:
    return weights.data_ptr()


def _padded_length(caption: CaptionContext) -> int:
    return math.ceil(caption.memories[0].keys.shape[2] / _CAPTION_TOKENS) * _CAPTION_TOKENS


def _on_own_memory(fresh: ScaleLoop) -> ScaleLoop:
    """Return a loop of the same form whose captions, random numbers and running sum are buffers."""
    old, running = fresh.decoding, fresh.running
    caches = tuple(
        KeyValueCache(each.capacity, each.form, by_token=each.by_token, last=each.last) for each in old.caches
    )
    return ScaleLoop(
        transformer=fresh.transformer,
        plan=fresh.plan,
        sampling=fresh.sampling,
        decoding=Decoding(_buffers(old.caption), caches, old.schedule),
        running=running.empty_like(),
        uniform=None if fresh.uniform is None else torch.empty_like(fresh.uniform),
    )


def _buffers(caption: CaptionContext) -> CaptionContext:
    """Return memory for captions of this form; what lies beyond a caption's end is masked."""
    length, rows = _padded_length(caption), len(caption.pooled_BD)
    bias = torch.full((rows, 1, 1, length), -math.inf, device=caption.pooled_BD.device)

    def longer(like: Tensor) -> Tensor:
        return like.new_zeros(rows, length, like.shape[1], like.shape[3]).transpose(1, 2)

    return CaptionContext(
        torch.empty_like(caption.pooled_BD),
        tuple(
            Modulation(*(torch.empty(part.shape, device=part.device) for part in each)) for each in caption.modulations
        ),
        tuple(TextMemory(longer(each.keys), longer(each.values), bias) for each in caption.memories),
    )


def _fill(buffers: CaptionContext, caption: CaptionContext) -> None:
    """Copy captions into buffers."""
    pairs = [(buffers.pooled_BD, caption.pooled_BD)]
    for parts in zip(buffers.modulations, caption.modulations, strict=True):
        pairs += zip(*parts, strict=True)
    for memory, read in zip(buffers.memories, caption.memories, strict=True):
        length = read.keys.shape[2]
        pairs += [(memory.keys[:, :, :length], read.keys), (memory.values[:, :, :length], read.values)]
    torch._foreach_copy_([own for own, _ in pairs], [given for _, given in pairs])
    bias, given = buffers.memories[0].bias, caption.memories[0].bias
    assert bias is not None
    bias.fill_(-math.inf)
    bias[..., :length] = 0.0 if given is None else given


def _replayed(captured: _Captured, fresh: ScaleLoop, passed: Passed) -> list[tuple[Tensor, Tensor]]:
    """Copy a batch into the captured memory, run the graphs, and copy the results out."""
    _fill(captured.caption, fresh.decoding.caption)
    loop = captured.loop
    if loop.uniform is not None and fresh.uniform is not None:
        loop.uniform.copy_(fresh.uniform)
    total = loop.running.total_BCHW.zero_()
    for k, replay in enumerate(captured.replays):
        replay()
        passed(k, total)
    fresh.running.total_BCHW = total.clone()
    return [(bits.clone(), is_finite.clone()) for bits, is_finite in captured.results]
