"""Where the parts of a model lie while it draws, for machines on which not everything fits at once."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from infinity.config import Config
from infinity.generation.device import check_device
from infinity.ranges import Positive
from infinity.text import TextCondition, TextConfig, TextEncoder, build_text_encoder
from infinity.transformer import Transformer
from infinity.transformer.block import Block

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPlacement(Config):
    """Where the parts of a model lie.

    Attributes:
        text_device: Device of the text encoder; None is that of the transformer.
        release_text: Whether the text encoder is loaded for each call alone, and released when its prompts are encoded.
        offload: Whether the blocks' weights lie in the memory of the CPU, and go to the device layer by layer.
        memory_gb: Working memory of a pass in GB (10^9 bytes); None follows ``INFINITY_MEMORY_GB`` or, without it, the
            free memory of the device.
    """

    text_device: str | None = None
    release_text: bool = False
    offload: bool = False
    memory_gb: Positive | None = None

    @property
    def memory_bytes(self) -> int | None:
        """Working memory of a pass in bytes."""
        return None if self.memory_gb is None else max(1, int(self.memory_gb * 1e9))

    def check(self, *, is_fixed: bool) -> None:
        """Refuse what cannot be together.

        Args:
            is_fixed: Whether blocks are compiled or captured, which fixes where their weights lie.

        Raises:
            ValueError: Weights that are offloaded do not stay where they are.
        """
        if self.offload and is_fixed:
            raise ValueError(
                "offload: weights that come and go are neither compiled nor captured; leave one of them out"
            )

    def put(self, transformer: Transformer, device: str) -> Transformer:
        """Return a transformer whose weights lie on a device, or wait for it on the CPU."""
        return offload_blocks(transformer, device) if self.offload else transformer.to(device)

    def text_encoder(self, config: TextConfig, device: str) -> TextEncoder:
        """Return the text encoder, on its device.

        Args:
            config: Settings of the text encoder.
            device: Device of the transformer.
        """
        where = device if self.text_device is None else check_device(self.text_device)
        return ReleasedTextEncoder(config, where) if self.release_text else build_text_encoder(config, where)


class ReleasedTextEncoder:
    """Text encoder that is in memory while it encodes, and not while a transformer draws.

    It is loaded once at first, so that a wrong folder is told then. Features are those of an encoder that stays.
    """

    def __init__(self, config: TextConfig, device: str) -> None:
        self.config, self.device = config, device
        self._ready: dict[tuple[str, ...], TextCondition] = {}
        self.channels, self.max_tokens = self._loaded(lambda encoder: (encoder.channels, encoder.max_tokens))

    def num_tokens(self, prompt: str) -> int:
        """Return the number of tokens of a caption before it is cut, including the end token."""
        return self._loaded(lambda encoder: encoder.num_tokens(prompt))

    def encode(self, prompts: Sequence[str]) -> TextCondition:
        """Return float32 features of every prompt, on the encoder's device."""
        if (found := self._ready.get(tuple(prompts))) is not None:
            return found
        return self._loaded(lambda encoder: encoder.encode(prompts))

    @contextmanager
    def prepared(self, batches: Sequence[Sequence[str]]) -> Iterator[None]:
        """Encode batches of prompts with one loading; during the block ``encode`` returns their features."""
        self._ready = self._loaded(lambda encoder: {tuple(batch): encoder.encode(batch) for batch in batches})
        try:
            yield
        finally:
            self._ready = {}

    def _loaded(self, use: Callable[[TextEncoder], _Result]) -> _Result:
        """Return what a function makes of the loaded encoder, to which nothing may refer afterwards."""
        result = use(build_text_encoder(self.config, self.device))
        gc.collect()  # the library's modules refer to each other
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        return result


def offload_blocks(transformer: Transformer, device: str) -> Transformer:
    """Keep the linear maps of the blocks in the memory of the CPU, and all else on a device, in place; return it.

    Their weights are copied to the device when a layer computes, once per scale, and given up behind it. The numbers
    are those of a transformer that lies on the device. Changes in place, such as those of adapters, are made on the
    CPU.

    Args:
        transformer: Transformer on the CPU, in evaluation mode.
        device: Device that computes.
    """
    target = torch.device(device)
    layers = [each for block in transformer.block_modules() for each in _layers(block)]
    waiting = {id(linear) for _, maps in layers for linear in maps}
    for layer, maps in layers:
        _WaitingLayer(layer, maps, target)
    for module in transformer.modules():
        if id(module) not in waiting:
            for place, name in _places(module):
                place[name] = _like(place[name], place[name].to(target))
    return transformer


def waiting_bytes(transformer: Transformer) -> tuple[int, int]:
    """Return the bytes that ``offload_blocks`` keeps off the device, and the most that a layer brings back."""
    each = [
        sum(weights.nbytes for linear in maps for weights in (*linear.parameters(), *linear.buffers()))
        for block in transformer.block_modules()
        for _, maps in _layers(block)
    ]
    return sum(each), max(each)


def _layers(block: Block) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
    """Yield each layer of a block that is called, with the linear maps, plain or quantized, that it reads."""
    attention = block.cross_attention
    for layer in (block.self_attention, attention, attention.key_value, block.feed_forward):
        yield layer, [child for child in layer.children() if hasattr(child, "in_features")]


def _places(module: nn.Module) -> list[tuple[dict[str, Any], str]]:
    """Return where the module itself holds its parameters and buffers."""
    return [(held, name) for held in (module._parameters, module._buffers) for name in held if held[name] is not None]


def _like(before: Tensor, after: Tensor) -> Tensor:
    return nn.Parameter(after.detach(), requires_grad=False) if isinstance(before, nn.Parameter) else after


class _WaitingLayer:
    """A layer whose weights lie in the memory of the CPU while it does not compute."""

    def __init__(self, layer: nn.Module, maps: Sequence[nn.Module], device: torch.device) -> None:
        self.places, self._device = [place for linear in maps for place in _places(linear)], device
        self._waiting: list[Tensor] = []
        if device.type == "cuda":
            for place, name in self.places:  # pinned, so that they are copied while the host goes on
                place[name] = _like(place[name], place[name].detach().pin_memory())
        layer.register_forward_pre_hook(self._fetch)
        layer.register_forward_hook(self._give_up, always_call=True)

    def _fetch(self, *_: object) -> None:
        self._waiting = [place[name] for place, name in self.places]
        for (place, name), before in zip(self.places, self._waiting, strict=True):
            place[name] = _like(before, before.detach().to(self._device, non_blocking=True))

    def _give_up(self, *_: object) -> None:
        for (place, name), before in zip(self.places, self._waiting, strict=True):
            place[name] = before
        self._waiting = []
