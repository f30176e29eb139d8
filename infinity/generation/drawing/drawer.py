"""Draw with a loaded model, with or without adapters; the pipeline and the server stand on it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from infinity import storage
from infinity.generation.drawing.arguments import place_text
from infinity.generation.drawing.results import (
    OnPreview,
    OutputType,
    PipelineResult,
    ScalePreview,
    as_output,
    check_output_type,
    settings_of,
)
from infinity.generation.editing.edits import Edit, draw_edit
from infinity.generation.files.picture_files import AdapterUse, DrawingSettings, EditRecord, WatermarkUse
from infinity.generation.generate import Generated
from infinity.generation.pipeline import Pipeline, prompt_list
from infinity.generation.sampling import SamplingConfig
from infinity.generation.steering import OnPictures, PictureSteering, ScaleDone
from infinity.generation.watermark.pattern import BitWatermark
from infinity.transformer.adapters.lora import Adapter, AdapterStack
from infinity.transformer.adapters.lora_files import load_adapter


class _Turn:
    """Who may change a model: nobody while another thread draws with it.

    Attributes:
        drawings: Drawings of this thread.
    """

    def __init__(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()
        self.drawings = 0

    @property
    def lock(self) -> threading.RLock:
        """Lock of the thread that draws or changes the model; a forked process has none of the parent's threads."""
        if self._process != os.getpid():
            self._lock, self._process, self.drawings = threading.RLock(), os.getpid(), 0
        return self._lock

    def __reduce__(self) -> tuple[type[_Turn], tuple[()]]:
        """Begin anew in a deep or pickled copy, whose model is its own; a shallow copy shares turn and model."""
        return _Turn, ()


class Drawer:
    """A loaded model and its adapters; it can be copied and pickled.

    Attributes:
        pipeline: Transformer, tokenizer and text encoder.
        model: URI of the model folder; empty where there is none.
    """

    def __init__(self, pipeline: Pipeline, model: str = "") -> None:
        """Wrap a loaded model folder; ``from_pretrained`` is the usual way.

        Args:
            pipeline: Transformer, tokenizer and text encoder.
            model: URI of the model folder, for ``save_pretrained``.
        """
        self.pipeline, self.model = pipeline, model
        self._stack = AdapterStack(pipeline.transformer)
        self._turn = _Turn()
        self._watermark: BitWatermark | None = None

    @property
    def watermark(self) -> BitWatermark | None:
        """Watermark of all pictures that are drawn from now on; None, the default, for none."""
        return self._watermark

    @watermark.setter
    def watermark(self, watermark: BitWatermark | None) -> None:
        if watermark is not None and not isinstance(watermark, BitWatermark):
            raise ValueError(f"watermark: expected a BitWatermark or None, got {type(watermark).__name__}")
        with self._changing("watermark"):
            self._watermark = watermark

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        with self._turn.lock:
            self._turn.drawings += 1
            try:
                yield
            finally:
                self._turn.drawings -= 1

    @contextmanager
    def _changing(self, what: str) -> Iterator[None]:
        """Let nothing be drawn meanwhile, and refuse the change from a callback: the picture would be of two models."""
        with self._turn.lock:
            if self._turn.drawings:
                raise ValueError(
                    f"{what}: cannot be changed by a callback of a drawing; change it when the call is done"
                )
            yield

    @property
    def device(self) -> torch.device:
        """Device on which the model computes."""
        return self.pipeline.device

    def draw(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampling: SamplingConfig,
        aspect_ratio: float = 1.0,
        *,
        steering: PictureSteering | None = None,
        batch_size: int = 8,
        output_type: OutputType = "pil",
        progress: Callable[[float], None] | None = None,
    ) -> PipelineResult:
        """Draw one picture per prompt and seed; the form of the call from which all others are made.

        Args:
            prompts: Prompts, one per picture.
            seeds: Seeds, one per picture.
            sampling: Guidance, temperature and top-p.
            aspect_ratio: Height / width; one of the fifteen for published sizes.
            steering: Later prompts and callbacks.
            batch_size: Pictures per pass.
            output_type: Form of the pictures, as in the call.
            progress: Called with the fraction done, from 0 to 1.
        """
        _check_call(sampling, output_type, progress)
        with self._drawing():
            steering = replace(steering or PictureSteering(), watermark=self.watermark)
            generated = self.pipeline.generate(
                prompts,
                aspect_ratio=aspect_ratio,
                sampling=sampling,
                seeds=seeds,
                batch_size=batch_size,
                progress=progress,
                steering=steering,
            )
            later = steering.later_prompts
            record = EditRecord(later_prompt=later[0], later_scale=steering.later_scale) if later else None
            return self._result(generated, prompts, seeds, sampling, aspect_ratio, record, output_type)

    def draw_each(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        adapters: Sequence[Sequence[tuple[Adapter | str, float]]],
        sampling: SamplingConfig,
        aspect_ratio: float = 1.0,
        *,
        batch_size: int = 8,
        output_type: OutputType = "pil",
        progress: Callable[[float], None] | None = None,
    ) -> PipelineResult:
        """Draw each picture with adapters of its own instead of the loaded ones, which stay.

        Pictures of equal adapters and scales are drawn together, one group after the other.

        Args:
            prompts: Prompts, one per picture.
            seeds: Seeds, one per picture.
            adapters: Adapters of each picture, with their scales; an empty list is none.
            sampling: Guidance, temperature and top-p.
            aspect_ratio: Height / width.
            batch_size: Most pictures per pass.
            output_type: Form of the pictures.
            progress: Called with the fraction done, from 0 to 1.

        Raises:
            AdapterError: An adapter is damaged, or of another model.
            ValueError: There is not one list of pairs per picture.
        """
        if not isinstance(adapters, Sequence) or len(adapters) != len(prompts):
            raise ValueError(f"adapters: expected one list of pairs for each of {len(prompts)} pictures")
        loaded: dict[object, Adapter] = {}
        groups: dict[tuple[tuple[str, float], ...], tuple[list[tuple[Adapter, float]], list[int]]] = {}
        for number, pairs in enumerate(adapters):
            found = [_adapter_and_scale(pair, loaded) for pair in pairs]
            groups.setdefault(tuple(_contents(found)), (found, []))[1].append(number)
        parts, done = [], 0
        for found, numbers in groups.values():

            def report(share: float, done: int = done, size: int = len(numbers)) -> None:
                if progress is not None:
                    progress((done + share * size) / len(prompts))

            chosen, own_seeds = [prompts[i] for i in numbers], [seeds[i] for i in numbers]
            with self.drawing_with(found, self.watermark):
                part = self.draw(chosen, own_seeds, sampling, aspect_ratio, batch_size=batch_size, progress=report)
            parts.append(part)
            done += len(numbers)
        return PipelineResult.joined(parts, [numbers for _, numbers in groups.values()], output_type)

    def draw_edit(
        self,
        edit: Edit,
        prompt: str,
        seeds: Sequence[int],
        sampling: SamplingConfig,
        output_type: OutputType = "pil",
        on_scale: OnPictures | None = None,
        *,
        batch_size: int = 8,
    ) -> PipelineResult:
        """Draw an edit once per seed; the form from which inpainting, outpainting and variations are made."""
        prompts = prompt_list([prompt] * len(seeds))
        _check_call(sampling, output_type, None)
        with self._drawing():
            steering = PictureSteering(on_scale=on_scale, watermark=self.watermark)
            generated = draw_edit(
                self.pipeline, edit, prompts, seeds, sampling, batch_size=batch_size, steering=steering
            )
            return self._result(generated, prompts, seeds, sampling, edit.source.aspect_ratio, edit.record, output_type)

    def set_adapters(self, adapters: Iterable[tuple[Adapter | str, float]]) -> None:
        """Load adapters instead of those that are loaded; their changes add up.

        Args:
            adapters: Adapters, or places of their files, each with its scale: 0 is none of its change, 1 all.

        Raises:
            AdapterError: A file is damaged, or an adapter is one of another model; the loaded ones stay then.
            StorageError: A file cannot be read.
            ValueError: They are not pairs of an adapter and a scale, or a callback of a drawing changes them.
        """
        if not isinstance(adapters, Iterable):
            raise ValueError(f"adapters: expected pairs of an adapter and its scale, got {adapters!r:.80}")
        wanted = [_adapter_and_scale(each) for each in adapters]
        with self._changing("adapters"):
            self._stack.set(wanted)

    def load_lora_weights(self, adapter: str, scale: float = 1.0) -> None:
        """Add an adapter to those that are loaded; the name is that of diffusers.

        Raises:
            AdapterError: The file is damaged, or of another model.
        """
        with self._turn.lock:
            self.set_adapters([*self._stack.loaded, (adapter, scale)])

    def unload_lora_weights(self) -> None:
        """Take all adapters away; the weights are bit for bit those before."""
        with self._changing("adapters"):
            self._stack.set([])

    @property
    def adapters(self) -> tuple[AdapterUse, ...]:
        """Loaded adapters with their scales."""
        return tuple(AdapterUse(name=a.name, content=a.digest, scale=scale) for a, scale in self._stack.loaded)

    @property
    def watermark_use(self) -> WatermarkUse | None:
        """Name and strength of the watermark, as settings of pictures hold them."""
        mark = self.watermark
        return None if mark is None else WatermarkUse(key_id=mark.key.id, strength=mark.strength)

    def loaded_again(self, uses: Sequence[AdapterUse]) -> tuple[tuple[Adapter, float], ...] | None:
        """Return the loaded adapters that a picture was drawn with, at its scales; None if one of them is missing."""
        there = {adapter.digest: adapter for adapter, _ in self._stack.loaded}
        if any(use.content not in there for use in uses):
            return None
        return tuple((replace(there[use.content], name=use.name), use.scale) for use in uses)

    @contextmanager
    def drawing_with(self, adapters: Sequence[tuple[Adapter, float]], watermark: BitWatermark | None) -> Iterator[None]:
        """Draw with other adapters and another watermark during the block.

        Raises:
            ValueError: A callback of a drawing asks for others.
        """
        with self._turn.lock:
            before = self._stack.loaded, self._watermark
            if _contents(adapters) == _contents(before[0]) and watermark == before[1]:
                yield
                return
            with self._changing("adapters"):
                self._stack.set(adapters)
                self._watermark = watermark
                try:
                    yield
                finally:
                    self._stack.set(before[0])
                    self._watermark = before[1]

    def _previews(self, callback: OnPreview | None) -> OnPictures | None:
        if callback is None:
            return None
        if not callable(callback):
            raise ValueError(f"callback_on_scale: expected a function, got {type(callback).__name__}")

        def on_scale(rows: slice, done: ScaleDone) -> None:
            numbers = range(rows.start, rows.stop)
            callback(ScalePreview(numbers, done.scale, done.num_scales, done, self.pipeline.tokenizer))

        return on_scale

    def _result(
        self,
        generated: Generated,
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampling: SamplingConfig,
        aspect_ratio: float,
        record: EditRecord | None,
        output_type: OutputType,
    ) -> PipelineResult:
        height, width = generated.images_BHW3.shape[1:3]
        about = DrawingSettings.of(
            prompts[0], seeds[0], sampling, aspect_ratio=aspect_ratio, size=(width, height), model=self.pipeline.digest
        ).replace(
            adapters=self.adapters,
            edit=record,
            quantized=self.pipeline.quantized,
            cache=self.pipeline.cache,
            bfloat16=self.pipeline.bfloat16 or None,
            watermark=self.watermark_use,
        )
        return PipelineResult(
            as_output(output_type, generated.images_BHW3),
            tuple(prompts),
            tuple(seeds),
            generated.labels,
            sampling,
            aspect_ratio,
            settings_of(prompts, seeds, about),
        )


def _check_call(sampling: object, output_type: object, progress: object) -> None:
    """Refuse before anything is drawn what would only fail afterwards."""
    if not isinstance(sampling, SamplingConfig):
        raise ValueError(f"sampling: expected a SamplingConfig or None, got {type(sampling).__name__}")
    check_output_type(output_type)
    if progress is not None and not callable(progress):
        raise ValueError(f"progress: expected a function, got {type(progress).__name__}")


def _contents(adapters: Sequence[tuple[Adapter, float]]) -> list[tuple[str, float]]:
    return [(adapter.digest, scale) for adapter, scale in adapters]


def _adapter_and_scale(pair: object, loaded: dict[object, Adapter] | None = None) -> tuple[Adapter, float]:
    """Return an adapter and its scale; one that was loaded before, by its place, is not loaded again."""
    if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
        raise ValueError(f"adapters: expected pairs of an adapter and its scale, got {pair!r:.80}")
    adapter, scale = pair
    if isinstance(adapter, Adapter):
        return adapter, scale
    place, known = storage.absolute(place_text("adapter", adapter)), {} if loaded is None else loaded
    if place not in known:
        known[place] = load_adapter(place)
    return known[place], scale
