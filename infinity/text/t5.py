"""T5 text encoder by the library transformers (paper 4.1: Flan-T5-XL, 2048 channels, frozen)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from infinity.config import Config
from infinity.ranges import Count, ModelName
from infinity.storage.plain_files import check_plain_files
from infinity.text.condition import TextCondition

TextDtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class T5TextConfig(Config):
    """Settings of a T5 encoder.

    Attributes:
        kind: Name of the encoder in JSON.
        model: Local folder (config.json, weights, tokenizer files) or hub name such as "google/flan-t5-xl".
        max_tokens: Largest number of tokens, including the end token; longer captions are cut (512 in the paper).
        dtype: Data type of weights and computation; features are float32. Half precision is slow on most CPUs.
        batch_size: Captions per pass, which bounds the memory.
        fingerprint: Fingerprint of the weights (`infinity.text.t5_folder`), or None if unknown. It distinguishes
            another T5 of the same shape from the one that a transformer was trained with.
    """

    later: ClassVar[frozenset[str]] = frozenset({"fingerprint"})

    kind: Literal["t5"] = "t5"
    model: ModelName
    max_tokens: Count = 512
    dtype: TextDtype = "float32"
    batch_size: Count = 64
    fingerprint: str | None = None


class T5TextEncoder:
    """Encoder that returns the last hidden states of a frozen T5, without padding.

    Raises:
        ValueError: The folder or hub name has no T5 encoder, or a tokenizer that does not belong to it.
    """

    def __init__(self, config: T5TextConfig, device: str = "cpu") -> None:
        # Imported here: transformers takes seconds to import, and only this encoder needs it.
        from transformers import AutoConfig, AutoTokenizer, T5EncoderModel

        self.config = config
        check_plain_files(config.model)
        try:
            self._check_is_t5(AutoConfig.from_pretrained(config.model))
            # AutoTokenizer reads spiece.model as sentencepiece does; T5Tokenizer(vocab_file=...) maps all to <unk>.
            self._tokenizer: Any = AutoTokenizer.from_pretrained(config.model)
            self._model: Any = T5EncoderModel.from_pretrained(config.model, dtype=getattr(torch, config.dtype))
        except (OSError, ValueError, ImportError, TypeError) as error:
            raise ValueError(_explain(config.model, error)) from error
        self._check_tokenizer()
        self._model.eval().requires_grad_(False).to(device)

    @property
    def channels(self) -> int:
        """Channels Dt, 2048 for Flan-T5-XL."""
        return int(self._model.config.d_model)

    @property
    def max_tokens(self) -> int:
        """Largest number of tokens; longer captions are cut."""
        return self.config.max_tokens

    def num_tokens(self, prompt: str) -> int:
        """Return the number of tokens of a caption before it is cut, including the end token."""
        return len(self._tokenizer(prompt, truncation=False, verbose=False).input_ids)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> TextCondition:
        """Return float32 features on the encoder's device; a caption has at least its end token.

        They are computed in ``config.dtype`` alone, also under autocast, so that generation reads the same features as
        training.
        """
        captions: list[torch.Tensor] = []
        with torch.autocast(self._model.device.type, enabled=False):
            for start in range(0, len(prompts), self.config.batch_size):
                captions += self._encode(list(prompts[start : start + self.config.batch_size]))
        return TextCondition.pack(captions)

    def _encode(self, prompts: list[str]) -> list[torch.Tensor]:
        tokens = self._tokenizer(
            prompts, truncation=True, max_length=self.config.max_tokens, padding="longest", return_tensors="pt"
        ).to(self._model.device)
        hidden = self._model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        masks = tokens.attention_mask.bool()
        return [features[mask].float() for features, mask in zip(hidden, masks, strict=True)]

    def _check_is_t5(self, found: Any) -> None:
        if found.model_type not in ("t5", "mt5", "umt5"):
            raise ValueError(f"it holds a model of type {found.model_type!r}")

    def _check_tokenizer(self) -> None:
        rows = int(self._model.config.vocab_size)
        if len(self._tokenizer) > rows:
            raise ValueError(
                f"text encoder {self.config.model!r}: the tokenizer knows {len(self._tokenizer)} tokens, the weights "
                f"have rows for {rows}; tokenizer and weights belong to different models"
            )
        first, second = (self._tokenizer(text).input_ids for text in ("a red cube", "two blue balls"))
        if first == second:
            raise ValueError(
                f"text encoder {self.config.model!r}: its tokenizer gives the same tokens for different captions; "
                "expected spiece.model or tokenizer.json of the same model in the folder"
            )


def _explain(model: str, error: Exception) -> str:
    place = "folder" if Path(model).is_dir() else "hub name (or a folder that does not exist)"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"no T5 text encoder could be loaded from the {place} {model!r}: {reason}. Expected a folder with config.json, "
        "model.safetensors and spiece.model or tokenizer.json, or a hub name that this machine can reach"
    )
