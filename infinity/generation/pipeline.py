"""A model folder: everything between a prompt and a picture, and how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from infinity import storage
from infinity.bits import BitLabels
from infinity.checkpoint import load_checkpoint, load_weights, save_checkpoint
from infinity.config import Config
from infinity.generation.generate import Generated, OnProgress, generate
from infinity.generation.sampling import SamplingConfig
from infinity.scales import Resolution
from infinity.text import TextConfig, TextEncoder, build_text_encoder
from infinity.tokenizer import Tokenizer, TokenizerConfig
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
    checkpoint = load_checkpoint(uri, kind=KIND)
    config = ModelConfig.from_json(checkpoint.config, where=uri)
    transformer = Transformer(config.transformer)
    load_weights(transformer, checkpoint.tensors, where=uri)
    return config, transformer.eval()


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """A loaded model folder.

    Attributes:
        config: What the transformer was trained with.
        transformer: In evaluation mode.
        tokenizer: In evaluation mode.
        text_encoder: Frozen.
    """

    config: ModelConfig
    transformer: Transformer
    tokenizer: Tokenizer
    text_encoder: TextEncoder

    @classmethod
    def load(cls, model_uri: str, device: str = "cpu") -> Self:
        """Read a model folder.

        Raises:
            CheckpointError: No checkpoint there, a damaged one, or tensors that do not fit their configuration.
            ValueError: A tokenizer or text encoder that is not the one the transformer was trained with.
        """
        config, transformer = load_transformer(model_uri)
        where = storage.join(model_uri, TOKENIZER_FOLDER)
        checkpoint = load_checkpoint(where, kind=TOKENIZER_KIND)
        if checkpoint.digest != config.tokenizer_digest:
            raise ValueError(
                f"{where}: the transformer was trained with tokenizer {config.tokenizer_digest}, this one is "
                f"{checkpoint.digest}; the bits of one mean nothing to the other"
            )
        tokenizer = Tokenizer(TokenizerConfig.from_json(checkpoint.config, where=where))
        load_weights(tokenizer, checkpoint.tensors, where=where)
        _check_bits(config.transformer, tokenizer.config, where=model_uri)
        text_encoder = build_text_encoder(config.text, device)
        if text_encoder.channels != config.transformer.text_channels:
            raise ValueError(
                f"{model_uri}: the transformer reads {config.transformer.text_channels} text channels, "
                f"the text encoder gives {text_encoder.channels}"
            )
        return cls(config, transformer.to(device), tokenizer.to(device).eval().requires_grad_(False), text_encoder)

    def generate(
        self,
        prompts: Sequence[str],
        *,
        aspect_ratio: float = 1.0,
        sampling: SamplingConfig | None = None,
        seeds: Sequence[int] | None = None,
        batch_size: int = 16,
        progress: OnProgress | None = None,
    ) -> Generated:
        """One picture a prompt.

        Args:
            prompts: What to draw.
            aspect_ratio: Height / width of all pictures; one of ``scales.ASPECT_RATIOS`` for published sizes.
            sampling: How bits are drawn; the defaults of ``SamplingConfig`` if None.
            seeds: One a prompt; 0 for all if None.
            batch_size: Pictures made at a time; it changes no random number.
            progress: Told the share that is done.
        """
        schedule = self.config.resolution.schedule(aspect_ratio)
        seeds = [0] * len(prompts) if seeds is None else seeds
        parts: list[Generated] = []
        for start in range(0, max(len(prompts), 1), batch_size):

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


def _check_bits(transformer: TransformerConfig, tokenizer: TokenizerConfig, *, where: str) -> None:
    if transformer.num_bits != tokenizer.token_bits:
        raise ValueError(
            f"{where}: the transformer predicts {transformer.num_bits} bits a token, the tokenizer has "
            f"{tokenizer.token_bits}; they do not belong together"
        )
