"""Sample pictures and exports of a transformer in training, with sharded weights or adapters or neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from infinity import storage
from infinity.data.dataset.manifest import Manifest
from infinity.data.images.contact_sheet import compose_sheet
from infinity.generation.passes import generate_in_passes
from infinity.generation.pipeline import load_transformer, save_model
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.training.base import Samples, weightings
from infinity.jobs.training.tokenizer import SHEET_SIDE_PX, sample_rows
from infinity.scales import ScaleSchedule
from infinity.text import TextEncoder
from infinity.tokenizer.tokenizer import Tokenizer
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.distributed.sharding import is_sharded, whole
from infinity.training.ema import Ema, averaged
from infinity.training.state import TrainState
from infinity.training.transformer.adapters import (
    has_adapters,
    has_quantized_base,
    merged,
    merged_into,
    trained_adapter,
)
from infinity.transformer.adapters.lora_files import save_adapter
from infinity.transformer.model import Transformer

if TYPE_CHECKING:
    from infinity.jobs.training.transformer import TrainTransformerSpec

ADAPTER_FOLDER = "adapter"
"""Folder of a training with adapters, beside its model folder."""


def sample_drawing(
    spec: TrainTransformerSpec,
    manifest: Manifest,
    state: TrainState,
    group: ProcessGroup,
    frozen: tuple[Tokenizer, TextEncoder],
) -> Callable[[], Samples]:
    """Return the function that draws sample pictures of the present state, on the frozen tokenizer's device."""
    transformer, device = cast("Transformer", state.module), next(frozen[0].parameters()).device
    ids = sample_rows(manifest, 8)
    prompts = spec.prompts or tuple(manifest.captions(ids.rows))
    schedule = spec.resolution.schedule(ids.aspect_ratio)

    def draw() -> Samples:
        rows: dict[str, list[np.ndarray]] = {}
        for ema, name in weightings(state.ema):
            with drawable(transformer, ema, group, device) as model:
                if model is not None:
                    rows[name] = _draw(model, *frozen, prompts, schedule, spec.sampling)
        return _sheet(rows, prompts)

    return draw


def model_exporting(
    spec: TrainTransformerSpec, state: TrainState, transformer: Transformer, group: ProcessGroup
) -> Callable[[str], None]:
    """Return the function that writes the model folder of the present state, and an adapter beside it.

    The adapter lies in the folder ``adapter`` next to the model folder, in peft's files.
    """
    extra = {"spec": spec.digest(), "stage": spec.stage, "num_steps": spec.loop.num_steps}

    def save(uri: str, model: Transformer) -> None:
        save_model(
            uri, model, text=spec.text, resolution=spec.resolution, tokenizer_uri=spec.tokenizer, extra=extra
        )  # fmt: skip

    def export(uri: str) -> None:
        if not has_quantized_base(transformer):
            with drawable(transformer, state.ema, group) as model:
                if model is not None:
                    save(uri, model)
        if has_adapters(transformer) and group.leads:
            with averaged(transformer, state.ema):
                adapter = trained_adapter(transformer, spec.stage)
            if has_quantized_base(transformer):
                save(uri, merged_into(start_weights(spec), adapter))
            save_adapter(storage.join(storage.parent(uri), ADAPTER_FOLDER), adapter)

    return export


def start_weights(spec: TrainTransformerSpec) -> Transformer:
    """Return a transformer of the spec's shape with the weights of its start model.

    Raises:
        CheckpointError: There is no such model, or it is damaged.
    """
    assert spec.start_from is not None
    transformer = Transformer(spec.model)
    transformer.load_state_dict(load_transformer(spec.start_from)[1].state_dict())
    return transformer


@contextmanager
def drawable(
    transformer: Transformer, ema: Ema | None, group: ProcessGroup, device: torch.device | None = None
) -> Iterator[Transformer | None]:
    """Give the model with its averaged weights; a sharded one as an unsharded copy, in the first worker only.

    All workers of a sharded training must enter together. A model with a quantized base is given with its adapters
    beside the weights, as it is in training.

    Args:
        ema: Moving average, or None for the weights themselves.
        group: Processes that share the weights.
        device: Device of the copy; None for that of the weights between two steps.
    """
    if not is_sharded(transformer):
        with averaged(transformer, ema):
            is_merged = has_adapters(transformer) and not has_quantized_base(transformer)
            yield merged(transformer) if is_merged else transformer
        return
    weights = transformer.state_dict() if ema is None else ema.weights()
    copy = Transformer(transformer.config).to(device or transformer.start.device).eval() if group.leads else None
    own = {} if copy is None else copy.state_dict()
    for name, value in weights.items():
        gathered = whole(value.detach())
        if copy is not None:
            own[name].copy_(gathered)
    yield copy


def _draw(
    transformer: Transformer,
    tokenizer: Tokenizer,
    encoder: TextEncoder,
    prompts: tuple[str, ...],
    schedule: ScaleSchedule,
    sampling: SamplingConfig,
) -> list[np.ndarray]:
    """Draw one picture per prompt, always with the same random numbers."""
    device = transformer.start.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        drawn = generate_in_passes(
            (transformer, tokenizer, encoder),
            prompts,
            schedule=schedule,
            sampling=sampling,
            seeds=[0] * len(prompts),
        )
    return list(drawn.images_BHW3.cpu().numpy())


def _sheet(rows: Mapping[str, list[np.ndarray]], prompts: tuple[str, ...]) -> Samples:
    """Compose one row of pictures per kind of weights; empty where this worker drew nothing."""
    pictures = [picture for each in rows.values() for picture in each]
    if not pictures:
        return Samples(b"")
    sheet = compose_sheet(pictures, columns=min(8, len(prompts)), enlarge=max(1, SHEET_SIDE_PX // pictures[0].shape[0]))
    return Samples(sheet, prompts, tuple(f"drawn with {name}" for name in rows))
