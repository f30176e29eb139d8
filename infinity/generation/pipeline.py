"""Model folders (transformer, tokenizer, text encoder), and the pipeline that loads one."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from infinity import storage
from infinity.budget import working_memory
from infinity.checkpoint import Checkpoint, build, load_checkpoint, save_checkpoint
from infinity.config import Config
from infinity.generation.compiled import compile_for_drawing
from infinity.generation.device import check_device, own_defaults
from infinity.generation.generate import Generated, OnProgress
from infinity.generation.graphs import capture_scales
from infinity.generation.passes import generate_in_passes
from infinity.generation.placement import ModelPlacement
from infinity.generation.sampling import SamplingConfig
from infinity.generation.steering import PictureSteering
from infinity.scales import Resolution
from infinity.strict_json import MAX_WHOLE_NUMBER
from infinity.text import TextConfig, TextEncoder
from infinity.tokenizer import Tokenizer, TokenizerConfig
from infinity.tokenizer.saved import tokenizer_of
from infinity.transformer import Transformer, TransformerConfig
from infinity.transformer.cache import CacheForm, check_cache_form
from infinity.transformer.number_formats.float8 import check_float8
from infinity.transformer.number_formats.precision import check_bfloat16, store_products_as
from infinity.transformer.number_formats.quantized import WeightForm, quantize_products

KIND = "transformer"
TOKENIZER_KIND = "tokenizer"
TOKENIZER_FOLDER = "tokenizer"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig(Config):
    """Configuration of a model folder.

    Attributes:
        text: Text encoder that the transformer was trained with.
        resolution: Grids of every aspect ratio.
        tokenizer_digest: Digest of the tokenizer's checkpoint, which lies in the subfolder ``tokenizer``.
    """

    transformer: TransformerConfig
    text: TextConfig
    resolution: Resolution
    tokenizer_digest: str


def save_model(
    uri: str,
    transformer: Transformer,
    *,
    text: TextConfig,
    resolution: Resolution,
    tokenizer_uri: str,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """Write a model folder; the tokenizer's checkpoint is copied into it.

    Returns:
        Digest of the transformer's checkpoint.

    Raises:
        CheckpointError: There is no tokenizer at ``tokenizer_uri``.
        ValueError: The tokenizer has another number of bits per token.
    """
    tokenizer = load_checkpoint(tokenizer_uri, kind=TOKENIZER_KIND)
    tokenizer_config = TokenizerConfig.from_json(tokenizer.config, where=tokenizer_uri)
    _check_bits(transformer.config, tokenizer_config, where=uri)
    digest = save_checkpoint(
        storage.join(uri, TOKENIZER_FOLDER),
        kind=TOKENIZER_KIND,
        config=tokenizer_config,
        tensors=tokenizer.tensors,
        extra=tokenizer.extra,
    )
    config = ModelConfig(transformer=transformer.config, text=text, resolution=resolution, tokenizer_digest=digest)
    return save_checkpoint(uri, kind=KIND, config=config, tensors=transformer.state_dict(), extra=extra)


def load_transformer(uri: str) -> tuple[ModelConfig, Transformer]:
    """Load the configuration of a model folder, and its transformer in evaluation mode on the CPU.

    Raises:
        CheckpointError: There is no checkpoint, it is damaged or of another kind, or tensors do not fit.
    """
    return _transformer_of(load_checkpoint(uri, kind=KIND))


def _own_tokenizer(where: str, digest: str) -> Tokenizer:
    """Load the tokenizer of a model folder, which has to be the one that the transformer was trained with."""
    checkpoint = load_checkpoint(where, kind=TOKENIZER_KIND)
    if checkpoint.digest != digest:
        raise ValueError(
            f"{where}: the transformer was trained with tokenizer {digest}, this one is "
            f"{checkpoint.digest}; the bits of one mean nothing to the other"
        )
    return tokenizer_of(checkpoint)


def _transformer_of(checkpoint: Checkpoint, *, is_shared: bool = False) -> tuple[ModelConfig, Transformer]:
    config = ModelConfig.from_json(checkpoint.config, where=checkpoint.uri)
    tensors = checkpoint.tensors
    transformer = build(lambda: Transformer(config.transformer), tensors, where=checkpoint.uri, is_shared=is_shared)
    return config, transformer.eval()


def _store(transformer: Transformer, quantized: WeightForm | None, in_bfloat16: bool) -> None:
    """Store weights in a smaller form, and copy those that are still a mapped file's, which may be replaced later."""
    if quantized is not None:
        quantize_products(transformer, quantized)
    if in_bfloat16:
        store_products_as(transformer, torch.bfloat16)
    for weights in (*transformer.parameters(), *transformer.buffers()):
        if weights.dtype == torch.float32:
            weights.data = weights.data.clone()


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """A loaded model folder.

    Attributes:
        transformer: Transformer in evaluation mode.
        tokenizer: Tokenizer in evaluation mode.
        text_encoder: Frozen text encoder.
        digest: Digest of the model folder; empty where there is none.
        bfloat16: Whether matrix products and convolutions are bfloat16; float32 otherwise.
        quantized: Form of the blocks' weights; None for plain floating point.
        cache: Form of the cached keys and values; None for floating point.
        placement: Where the parts of the model lie.
    """

    config: ModelConfig
    transformer: Transformer
    tokenizer: Tokenizer
    text_encoder: TextEncoder
    digest: str = ""
    bfloat16: bool = False
    quantized: WeightForm | None = None
    cache: CacheForm | None = None
    placement: ModelPlacement = field(default_factory=ModelPlacement)

    @classmethod
    @own_defaults()
    def load(
        cls,
        model_uri: str,
        device: str = "cpu",
        *,
        bfloat16: bool | None = None,
        compiled: bool = False,
        graphs: bool = False,
        quantized: WeightForm | None = None,
        cache: CacheForm | None = None,
        placement: ModelPlacement | None = None,
    ) -> Self:
        """Load a model folder.

        Args:
            model_uri: URI of the folder.
            bfloat16: Whether products are bfloat16, which needs half the memory for weights; None is yes on a GPU and
                no on a CPU.
            compiled: Whether blocks and decoder are compiled; the first picture then takes minutes.
            graphs: Whether scales are captured as CUDA graphs (``infinity.generation.graphs``).
            quantized: Form in which the blocks' weights are stored, "int8" or "int4"; or "float8", in which their
                products are computed as well. None is plain floating point.
            cache: Form in which keys and values of earlier scales are stored, "int8"; None is floating point.
            placement: Where the parts of the model lie; None puts everything on the device.

        Raises:
            CheckpointError: There is no checkpoint, it is damaged, or tensors do not fit.
            ValueError: The transformer was trained with another tokenizer or text encoder, or this machine does not
                have the device, or only emulates bfloat16 or float8.
        """
        check_device(device)
        in_bfloat16 = torch.device(device).type == "cuda" if bfloat16 is None else bfloat16
        if in_bfloat16:
            check_bfloat16(torch.device(device))
        if quantized == "float8":
            check_float8(torch.device(device))
        placement = placement or ModelPlacement()
        placement.check(is_fixed=compiled or graphs)
        model = load_checkpoint(model_uri, kind=KIND)
        is_smaller = quantized is not None or in_bfloat16  # then float32 weights stay in the file until their turn
        config, transformer = _transformer_of(model, is_shared=is_smaller)
        tokenizer = _own_tokenizer(storage.join(model_uri, TOKENIZER_FOLDER), config.tokenizer_digest)
        _check_bits(config.transformer, tokenizer.config, where=model_uri)
        text_encoder = placement.text_encoder(config.text, device)
        if text_encoder.channels != config.transformer.text_channels:
            raise ValueError(
                f"{model_uri}: the transformer reads {config.transformer.text_channels} text channels, "
                f"the text encoder gives {text_encoder.channels}"
            )
        transformer.cache_form = check_cache_form(cache)
        if is_smaller:
            _store(transformer, quantized, in_bfloat16)
        models = placement.put(transformer, device), tokenizer.to(device), text_encoder
        if compiled:
            compile_for_drawing(transformer, tokenizer)
        if graphs:
            capture_scales(transformer)
        return cls(config, *models, model.digest, in_bfloat16, quantized, cache, placement)

    def autocast(self) -> torch.autocast:
        """Return the context in which this model computes."""
        return torch.autocast(self.transformer.start.device.type, torch.bfloat16, enabled=self.bfloat16)

    @own_defaults()
    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        aspect_ratio: float = 1.0,
        sampling: SamplingConfig | None = None,
        seeds: int | Sequence[int] | None = None,
        batch_size: int = 16,
        progress: OnProgress | None = None,
        steering: PictureSteering | None = None,
    ) -> Generated:
        """Generate one picture per prompt.

        Args:
            prompts: Prompts; a single text is one prompt.
            aspect_ratio: Height / width of all pictures; one of ``scales.ASPECT_RATIOS`` for published sizes.
            sampling: Guidance, temperature and top-p; None for the defaults of ``SamplingConfig``.
            seeds: One seed per prompt. A single number is the seed of every prompt's first picture, and a repeated
                prompt continues with the next seeds, so that equal prompts give different pictures. None is 0.
            batch_size: Most pictures per pass, fewer where memory is short; it changes no random number.
            progress: Called with the fraction done, from 0 to 1.
            steering: Bits taken over from other pictures, later prompts, and a callback per scale.

        Raises:
            ValueError: There is no prompt, the number of seeds differs, or a setting is out of range.
        """
        prompts = prompt_list(prompts)
        seeds = seed_list(prompts, seeds)
        batch_size = _at_least_one(batch_size)
        schedule = self.config.resolution.schedule(aspect_ratio)
        with self.autocast(), working_memory(self.placement.memory_bytes):
            return generate_in_passes(
                (self.transformer, self.tokenizer, self.text_encoder),
                prompts,
                schedule=schedule,
                sampling=sampling or SamplingConfig(),
                seeds=seeds,
                batch_size=batch_size,
                progress=progress,
                steering=steering,
            )

    @property
    def device(self) -> torch.device:
        """Device on which the transformer computes."""
        return self.transformer.start.device


def _at_least_one(batch_size: int) -> int:
    try:
        found = operator.index(batch_size)
    except TypeError:
        raise ValueError(f"batch_size: expected a whole number, got {batch_size!r:.80}") from None
    if found < 1:
        raise ValueError(f"batch_size: expected at least 1, got {found}")
    return found


def prompt_list(prompts: str | Sequence[str]) -> list[str]:
    """Return the prompts as a list; a single text is one prompt.

    Raises:
        ValueError: There is no prompt, or one is not a text.
    """
    if not isinstance(prompts, str) and (isinstance(prompts, Mapping | Set) or not isinstance(prompts, Iterable)):
        raise ValueError(f"prompts: expected a text or a list of texts, got {type(prompts).__name__}")
    found = [prompts] if isinstance(prompts, str) else list(prompts)
    if not found:
        raise ValueError("prompts: expected at least one prompt, got none")
    for number, prompt in enumerate(found, start=1):
        if not isinstance(prompt, str):
            raise ValueError(f"prompts: expected texts, got {type(prompt).__name__} as number {number}")
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            place = f"character {error.start + 1} of number {number}"
            raise ValueError(f"prompts: expected texts in UTF-8, but {place} is half a character") from None
    return found


def index(value: Any) -> int:
    """Return a whole number of any library as an int.

    Raises:
        TypeError: It is none; True and False are none either.
    """
    if isinstance(value, bool):
        raise TypeError("a truth value is no number")
    return operator.index(value)


def seed_list(prompts: Sequence[str], seeds: int | Sequence[int] | None) -> list[int]:
    """Return one seed per prompt: the given ones, or numbers that count up for repeated prompts.

    Raises:
        ValueError: The number of seeds differs, or one is not a whole number of at most 64 bits.

    Example:
        >>> seed_list(["a cat", "a dog", "a cat"], 5)
        [5, 5, 6]
    """
    try:
        first = 0 if seeds is None else index(seeds)
    except TypeError:
        pass
    else:
        counts, found = Counter[str](), []
        for prompt in prompts:
            found.append(first + counts[prompt])
            counts[prompt] += 1
        return _storable(found)
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise ValueError(f"seeds: expected whole numbers, got {seeds!r:.80}")
    given = list(seeds)
    if len(given) != len(prompts):
        raise ValueError(f"seeds: expected one per prompt, got {len(given)} for {len(prompts)} prompts")
    try:
        return _storable([index(seed) for seed in given])
    except TypeError:
        raise ValueError(f"seeds: expected whole numbers, got {given!s:.80}") from None


def _storable(seeds: list[int]) -> list[int]:
    """Return the seeds, if the file of a picture can hold them; it could not be drawn again otherwise."""
    if large := next((seed for seed in seeds if abs(seed) >= MAX_WHOLE_NUMBER), None):
        raise ValueError(f"seeds: expected whole numbers of at most 64 bits, got {large!s:.80}")
    return seeds


def _check_bits(transformer: TransformerConfig, tokenizer: TokenizerConfig, *, where: str) -> None:
    if transformer.num_bits != tokenizer.token_bits:
        raise ValueError(
            f"{where}: the transformer predicts {transformer.num_bits} bits per token, the tokenizer has "
            f"{tokenizer.token_bits}; they do not belong together"
        )
