"""A model folder: everything between a prompt and a picture, and how to use it."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, SupportsIndex

import torch

from infinity import storage
from infinity.bits import BitLabels
from infinity.checkpoint import Checkpoint, build, load_checkpoint, save_checkpoint
from infinity.config import Config
from infinity.generation.device import check_device
from infinity.generation.generate import Generated, OnProgress, generate
from infinity.generation.sampling import SamplingConfig
from infinity.scales import Resolution
from infinity.text import TextConfig, TextEncoder, build_text_encoder
from infinity.tokenizer import Tokenizer, TokenizerConfig
from infinity.tokenizer.saved import tokenizer_of
from infinity.transformer import Transformer, TransformerConfig

KIND = "transformer"
TOKENIZER_KIND = "tokenizer"
TOKENIZER_FOLDER = "tokenizer"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig(Config):
    """What a transformer was trained as, and what it was trained with.

    Attributes:
        transformer: Shape of the transformer.
        text: The text encoder.
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
        The digest of the transformer's checkpoint.

    Raises:
        CheckpointError: No tokenizer at ``tokenizer_uri``.
        ValueError: A tokenizer of another number of bits a token.
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
    """The transformer of a model folder, in evaluation mode on the CPU, and what it was trained with.

    Raises:
        CheckpointError: No checkpoint there, a damaged one, another kind, or tensors that do not fit its configuration.
    """
    return _transformer_of(load_checkpoint(uri, kind=KIND))


def _transformer_of(checkpoint: Checkpoint) -> tuple[ModelConfig, Transformer]:
    config = ModelConfig.from_json(checkpoint.config, where=checkpoint.uri)
    transformer = build(lambda: Transformer(config.transformer), checkpoint.tensors, where=checkpoint.uri)
    return config, transformer.eval()


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """A loaded model folder.

    Attributes:
        config: What the transformer was trained with.
        transformer: In evaluation mode.
        tokenizer: In evaluation mode.
        text_encoder: Frozen.
        digest: Of the model folder; empty where there is none.
    """

    config: ModelConfig
    transformer: Transformer
    tokenizer: Tokenizer
    text_encoder: TextEncoder
    digest: str = ""

    @classmethod
    def load(cls, model_uri: str, device: str = "cpu") -> Self:
        """Read a model folder.

        Raises:
            CheckpointError: No checkpoint there, a damaged one, or tensors that do not fit their configuration.
            ValueError: A tokenizer or text encoder that is not the one the transformer was trained with, or a device
                that this machine does not have.
        """
        check_device(device)
        model = load_checkpoint(model_uri, kind=KIND)
        config, transformer = _transformer_of(model)
        where = storage.join(model_uri, TOKENIZER_FOLDER)
        checkpoint = load_checkpoint(where, kind=TOKENIZER_KIND)
        if checkpoint.digest != config.tokenizer_digest:
            raise ValueError(
                f"{where}: the transformer was trained with tokenizer {config.tokenizer_digest}, this one is "
                f"{checkpoint.digest}; the bits of one mean nothing to the other"
            )
        tokenizer = tokenizer_of(checkpoint)
        _check_bits(config.transformer, tokenizer.config, where=model_uri)
        text_encoder = build_text_encoder(config.text, device)
        if text_encoder.channels != config.transformer.text_channels:
            raise ValueError(
                f"{model_uri}: the transformer reads {config.transformer.text_channels} text channels, "
                f"the text encoder gives {text_encoder.channels}"
            )
        return cls(config, transformer.to(device), tokenizer.to(device), text_encoder, model.digest)

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        aspect_ratio: float = 1.0,
        sampling: SamplingConfig | None = None,
        seeds: int | Sequence[int] | None = None,
        batch_size: int = 16,
        progress: OnProgress | None = None,
    ) -> Generated:
        """One picture a prompt.

        Args:
            prompts: What to draw; a text alone is one prompt.
            aspect_ratio: Height / width of all pictures; one of ``scales.ASPECT_RATIOS`` for published sizes.
            sampling: How bits are drawn; the defaults of ``SamplingConfig`` if None.
            seeds: One a prompt. A number alone is the seed of every prompt's first picture, and a prompt that comes
                again has the seeds after it, so that equal prompts give different pictures; 0 if None.
            batch_size: Pictures made at a time; it changes no random number.
            progress: Told the share that is done.

        Raises:
            ValueError: No prompt, another number of seeds, or a ratio, guidance or the like that cannot be.
        """
        prompts = prompt_list(prompts)
        seeds = seed_list(prompts, seeds)
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        schedule = self.config.resolution.schedule(aspect_ratio)
        parts: list[Generated] = []
        for start in range(0, len(prompts), batch_size):

            def report(share: float, start: int = start) -> None:
                if progress is not None:
                    size = len(prompts[start : start + batch_size])
                    progress((start + share * size) / len(prompts))

            with torch.autocast("cuda", torch.bfloat16, enabled=self.transformer.start.device.type == "cuda"):
                part = generate(
                    self.transformer,
                    self.tokenizer,
                    self.text_encoder,
                    prompts[start : start + batch_size],
                    schedule=schedule,
                    sampling=sampling or SamplingConfig(),
                    seeds=seeds[start : start + batch_size],
                    progress=report,
                )
            parts.append(part)
        return Generated(
            images_BHW3=torch.cat([part.images_BHW3 for part in parts]),
            labels=BitLabels(schedule, torch.cat([part.labels.bits_BLC for part in parts])),
        )


def prompt_list(prompts: str | Sequence[str]) -> list[str]:
    """The prompts of a call; a text alone is one.

    Raises:
        ValueError: None, or something that is no text.
    """
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


def seed_list(prompts: Sequence[str], seeds: int | Sequence[int] | None) -> list[int]:
    """One seed a prompt: those that are given, or numbers that count up for prompts that come again.

    Raises:
        ValueError: Another number of seeds, or something that is no whole number.
    """
    if seeds is None or isinstance(seeds, SupportsIndex):
        first, counts = operator.index(seeds or 0), Counter[str]()
        found = []
        for prompt in prompts:
            found.append(first + counts[prompt])
            counts[prompt] += 1
        return found
    given = list(seeds)
    if len(given) != len(prompts):
        raise ValueError(f"seeds: expected one a prompt, got {len(given)} for {len(prompts)} prompts")
    try:
        return [operator.index(seed) for seed in given]
    except TypeError:
        raise ValueError(f"seeds: expected whole numbers, got {given!s:.80}") from None


def _check_bits(transformer: TransformerConfig, tokenizer: TokenizerConfig, *, where: str) -> None:
    if transformer.num_bits != tokenizer.token_bits:
        raise ValueError(
            f"{where}: the transformer predicts {transformer.num_bits} bits a token, the tokenizer has "
            f"{tokenizer.token_bits}; they do not belong together"
        )
