"""Estimate the memory of drawing before anything is loaded: weights by layout, caches and activations by shape."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from infinity import storage
from infinity.checkpoint import read_kind_and_config
from infinity.config import Config
from infinity.generation.files.model_folder import ModelNotFoundError, model_folder
from infinity.generation.memory import cache_bytes, picture_bytes, stored_weights
from infinity.generation.pipeline import KIND, TOKENIZER_FOLDER, TOKENIZER_KIND, ModelConfig
from infinity.generation.placement import waiting_bytes
from infinity.jobs.estimate.estimate import FLAN_T5_XL_WEIGHTS, GPU_CONTEXT_BYTES
from infinity.presets import tokenizer_preset, transformer_preset
from infinity.scales import Resolution, Size
from infinity.text import T5TextConfig
from infinity.tokenizer import Tokenizer, TokenizerConfig
from infinity.transformer.cache import CacheForm
from infinity.transformer.number_formats.quantized import WeightForm, weight_bytes

PUBLISHED: dict[str, tuple[str, str, Size]] = {
    "125m": ("125M", "d16", "256"),
    "2b": ("2B-released", "d32", "1024"),
    "8b": ("8B-released", "d56-folded", "1024"),
    "8b-512": ("8B-released", "d56-folded", "512"),
}
"""Transformer, tokenizer and size class of a published model, by the name of ``infinity pull``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawingSetup(Config):
    """How a model draws.

    Attributes:
        quantize: Form of the blocks' stored weights; None for floating point.
        cache: Form of the cached keys and values; None for floating point.
        bfloat16: Whether products are bfloat16, as on a GPU.
        guided: Whether classifier-free guidance doubles the batch.
        pictures: Pictures per pass.
        aspect_ratio: Height / width of the pictures.
    """

    quantize: WeightForm | None = None
    cache: CacheForm | None = None
    bfloat16: bool = True
    guided: bool = True
    pictures: int = 1
    aspect_ratio: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawingEstimate(Config):
    """Bytes of drawing on one device.

    Attributes:
        transformer: Stored weights of the transformer.
        waiting: What of these ``--offload`` keeps off the device.
        text_encoder: Weights of the text encoder; 0 for the built-in one.
        cache: Cached keys and values of a pass.
        activations: Everything else alive in the loop over scales.
        decoding: Working memory of decoding one picture, when the cache is freed already.
        context: Memory of CUDA and its libraries; 0 on a CPU.
    """

    transformer: int
    waiting: int
    tokenizer: int
    text_encoder: int
    cache: int
    activations: int
    decoding: int
    context: int

    @property
    def total(self) -> int:
        """Peak with everything on one device."""
        weights = self.transformer + self.tokenizer + self.text_encoder
        return weights + max(self.cache + self.activations, self.decoding) + self.context

    @property
    def without_text_encoder(self) -> int:
        """Peak with the text encoder elsewhere, for example on the CPU."""
        return self.total - self.text_encoder

    @property
    def offloaded(self) -> int:
        """The same where the blocks' weights, too, lie in the memory of the CPU."""
        return self.without_text_encoder - self.waiting

    @property
    def decoding_in_bands(self) -> int:
        """The same where decoding, too, keeps to the memory of the loop over scales.

        A device with less free memory decodes bands of rows (``infinity.tokenizer.bands``), whose whole maps lie in the
        memory of the CPU. A CPU does so where ``INFINITY_MEMORY_GB`` sets a budget.
        """
        return self.transformer + self.tokenizer + self.cache + self.activations + self.context


def shapes_of(model: str) -> tuple[ModelConfig, TokenizerConfig]:
    """Return the configuration of a published model by its name, or of a model folder or a run.

    Raises:
        CheckpointError: The folder is damaged.
        ValueError: There is no such model.
    """
    if (names := PUBLISHED.get(model.lower())) is not None:
        transformer, tokenizer = transformer_preset(names[0]), tokenizer_preset(names[1])
        text = T5TextConfig(model="google/flan-t5-xl", dtype="bfloat16")
        resolution = Resolution(size=names[2])
        return ModelConfig(transformer=transformer, text=text, resolution=resolution, tokenizer_digest=""), tokenizer
    try:
        folder = model_folder(storage.absolute(model))
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"{error}; nor is it one of {', '.join(PUBLISHED)}") from error
    config = ModelConfig.from_json(read_kind_and_config(folder, kind=KIND)[1], where=folder)
    inner = storage.join(folder, TOKENIZER_FOLDER)
    described = read_kind_and_config(inner, kind=TOKENIZER_KIND)[1]
    return config, TokenizerConfig.from_json(described, where=inner)


def estimate_drawing(config: ModelConfig, tokenizer: TokenizerConfig, setup: DrawingSetup) -> DrawingEstimate:
    """Return the bytes that drawing takes; no weight is made or read.

    Args:
        config: Configuration of the model folder.

    Raises:
        ValueError: The resolution has no such shape.
    """
    schedule = config.resolution.schedule(setup.aspect_ratio)
    dtype = torch.bfloat16 if setup.bfloat16 else torch.float32
    rows = setup.pictures * (2 if setup.guided else 1)
    cache = rows * cache_bytes(config.transformer, schedule, dtype, setup.cache)
    each = picture_bytes(
        config.transformer, schedule, doubled=setup.guided, cache_dtype=dtype, cache_form=setup.cache
    )  # fmt: skip
    transformer = stored_weights(config.transformer, setup.quantize, dtype)
    waiting, largest = waiting_bytes(transformer)
    with torch.device("meta"):
        decoder = Tokenizer(tokenizer)
        decoding = decoder.pass_bytes(schedule.image_size_px(tokenizer.stride_px))
    text = 0
    if isinstance(config.text, T5TextConfig):
        text = FLAN_T5_XL_WEIGHTS * (4 if config.text.dtype == "float32" else 2)
    return DrawingEstimate(
        transformer=weight_bytes(transformer),
        waiting=waiting - largest,
        tokenizer=weight_bytes(decoder),
        text_encoder=text,
        cache=cache,
        activations=setup.pictures * each - cache,
        decoding=decoding,
        context=GPU_CONTEXT_BYTES if setup.bfloat16 else 0,
    )
