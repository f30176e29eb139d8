"""Long captions by a vision-language model through transformers (the paper's were written by InternVL 2.0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from infinity.config import digest_of
from infinity.perception.clip import Picture, rgb
from infinity.perception.loading import PretrainedConfig, folder_digest, load_pretrained, model_folder
from infinity.ranges import Count

CAPTION_VERSION = 1
"""Version; raise it when the same model writes other captions for the same pictures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionerConfig(PretrainedConfig):
    """Configuration of the model that writes captions, and its prompt.

    Attributes:
        model: A local folder or hub name of a model that turns a picture and a text into a text.
        prompt: Question to a model with a chat template; for others (BLIP) the first words of a caption, which may be
            empty.
        max_new_tokens: Largest number of tokens per caption.
    """

    prompt: str = "Describe this picture in detail."
    max_new_tokens: Count = 256
    batch_size: Count = 8

    def weights_digest(self) -> str:
        """Return 16 digits that name all that a caption depends on besides the picture."""
        folder = model_folder("captioner", self.model, self.revision)
        return digest_of([CAPTION_VERSION, folder_digest(folder), self.prompt, self.max_new_tokens, self.dtype])


class Captioner:
    """Model that writes captions greedily, so that equal pictures get equal captions.

    Raises:
        ValueError: There is no such model, its weights are not the expected ones, or tensors are missing.
    """

    def __init__(self, config: CaptionerConfig, device: str = "cpu") -> None:
        # Imported here: transformers takes seconds to import.
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.config = config
        loaders = AutoProcessor, AutoModelForImageTextToText
        # A caption is read after the prompt, so padding goes before the prompt.
        self._processor, self._model = load_pretrained("captioner", config, *loaders, padding_side="left")
        self._has_chat = getattr(self._processor, "chat_template", None) is not None
        self._model.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Picture]) -> list[str]:
        """Return one caption per picture, on one line; it may be empty."""
        captions: list[str] = []
        for start in range(0, len(pictures), self.config.batch_size):
            captions += self._describe([rgb(picture) for picture in pictures[start : start + self.config.batch_size]])
        return captions

    def _describe(self, pictures: list[Any]) -> list[str]:
        inputs = self._inputs(pictures)
        generated = self._model.generate(**inputs, max_new_tokens=self.config.max_new_tokens, do_sample=False)
        if self._has_chat and not self._model.config.is_encoder_decoder:
            generated = generated[:, inputs["input_ids"].shape[1] :]
        texts = self._processor.batch_decode(generated, skip_special_tokens=True)
        return [" ".join(str(text).split()) for text in texts]

    def _inputs(self, pictures: list[Any]) -> Any:
        texts: dict[str, Any] = {}
        if self._has_chat:
            content = [{"type": "image"}, {"type": "text", "text": self.config.prompt}]
            question = self._processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
            texts = {"text": [question] * len(pictures), "padding": True}
        elif self.config.prompt:
            texts = {"text": [self.config.prompt] * len(pictures), "padding": True}
        images = [[picture] for picture in pictures] if self._has_chat else pictures
        inputs = self._processor(images=images, return_tensors="pt", **texts).to(self._model.device)
        for name, value in inputs.items():
            if torch.is_floating_point(value):
                inputs[name] = value.to(self._model.dtype)
        return inputs
