"""HPSv3 (arXiv:2508.03789): how much people would prefer a picture for its prompt, about -5 to 15.

It is a Qwen2-VL that reads an instruction with the picture and the prompt. A stack of linear layers turns the hidden
state at the token ``<|Reward|>`` into mean and deviation of the preference; the mean is the score. The published file
``HPSv3.safetensors`` holds all weights; tokenizer and settings come from the folder of Qwen2-VL.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image
from torch import Tensor, nn

from infinity.checkpoint import load_weights
from infinity.config import Config, digest_of
from infinity.perception.clip import Picture, rgb
from infinity.perception.loading import build, explain, folder_digest, model_folder, read_tensors, shape_of
from infinity.perception.script_texts import assigned_literals
from infinity.ranges import Count, Range
from infinity.storage.pinned import PinnedFile

STANDARD = PinnedFile(uri="https://huggingface.co/MizzenAI/HPSv3/resolve/main/HPSv3.safetensors")
"""The published weights; no checksum was published with them."""

INSTRUCTION = PinnedFile(
    uri="https://raw.githubusercontent.com/MizzenAI/HPSv3/d232ff8669a0b00759766067c6c3a26e2e717fac/"
    "hpsv3/dataset/data_collator_qwen.py"
)
"""Source file of the published code that holds the instruction; the text is not copied here."""

INSTRUCTION_SHA256 = "f6ee57479d4e9eee76b49c00dc962e1e696a5a2b3cc32cebd9b1fa76fe27502c"
"""Checksum of the instruction that the weights were trained with, as the package hpsv3 1.0.0 holds it."""

REWARD_TOKEN = "<|Reward|>"
_PLACE = "{text_prompt}"
_HEAD = "rm_head."
_SIDE = 28  # px; Qwen2-VL joins 2 x 2 patches of 14 px


@dataclass(frozen=True, kw_only=True, slots=True)
class Hps3Config(Config):
    """Configuration of HPSv3.

    Attributes:
        weights: File of the weights.
        base: Local folder or hub name of Qwen2-VL, for its tokenizer and settings; its weights are not read.
        instruction: Python file of the published code that assigns the instruction.
        instruction_sha256: Checksum of the instruction's text, or None for any text.
        pixels: Pixels to which every picture is scaled; 256 squares of 28 px in the published code.
        dtype: Data type of the weights of Qwen2-VL; the layers behind it have float32.
        batch_size: Pictures per batch.
    """

    weights: PinnedFile = STANDARD
    base: str = "Qwen/Qwen2-VL-7B-Instruct"
    instruction: PinnedFile = INSTRUCTION
    instruction_sha256: str | None = INSTRUCTION_SHA256
    pixels: Annotated[int, Range(_SIDE * _SIDE)] = 256 * _SIDE * _SIDE
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    batch_size: Count = 8

    def weights_digest(self) -> str:
        """Return 16 digits that name all that a score depends on besides picture and prompt."""
        folder = model_folder("HPSv3 base", self.base, weights=False)
        about = [self.pixels, self.dtype, hashlib.sha256(read_instruction(self).encode()).hexdigest()]
        return digest_of([self.weights.content_digest(), folder_digest(folder), about])


class Hps3:
    """HPSv3 in evaluation mode.

    Raises:
        ValueError: A file or folder is missing, tensors are missing or misshapen, or the instruction is another one.
        CheckpointError: Tensors of the last layers are missing or of other shapes.
        PinnedFileError: The download failed, or the checksum differs.
        StorageError: A file cannot be read.
    """

    def __init__(self, config: Hps3Config, device: str = "cpu") -> None:
        # Imported here: transformers takes seconds to import.
        from transformers import AutoConfig, AutoTokenizer, Qwen2VLForConditionalGeneration
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        self._config, where = config, config.weights.uri
        self._instruction = read_instruction(config)
        folder = model_folder("HPSv3 base", config.base, weights=False)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="right")
            self._pixels: Any = Qwen2VLImageProcessorPil.from_pretrained(folder)
            settings: Any = AutoConfig.from_pretrained(folder)
        except (OSError, ValueError, ImportError, TypeError, KeyError) as error:
            raise ValueError(explain("Qwen2-VL", config.base, error)) from error
        if settings.model_type != "qwen2_vl":
            raise ValueError(f"{config.base}: expected a Qwen2-VL, found a {settings.model_type}")
        if self._tokenizer.chat_template is None:
            raise ValueError(f"{config.base}: expected a tokenizer with a chat template, found none")
        self._tokenizer.add_tokens([REWARD_TOKEN], special_tokens=True)
        self._reward_id = self._tokenizer.convert_tokens_to_ids(REWARD_TOKEN)
        self._picture_token = self._tokenizer.convert_ids_to_tokens(settings.image_token_id)
        tensors = read_tensors(config.weights)
        head = {name.removeprefix(_HEAD): tensors.pop(name) for name in list(tensors) if name.startswith(_HEAD)}
        settings.text_config.vocab_size = self._vocabulary(tensors, where)
        self._network: Any = build(
            Qwen2VLForConditionalGeneration, settings, tensors, where, dtype=getattr(torch, config.dtype)
        )
        self._head = _head(head, where)
        for part in (self._network, self._head):
            part.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Picture], prompts: Sequence[str]) -> Float32[np.ndarray, " n"]:
        """Return the score of each picture for the prompt at the same place.

        Raises:
            ValueError: There are not as many prompts as pictures, or a prompt holds a control token of the model.
        """
        if len(pictures) != len(prompts):
            raise ValueError(f"expected as many prompts as pictures, got {len(prompts)} and {len(pictures)}")
        scores, size = [np.zeros(0, np.float32)], self._config.batch_size
        for start in range(0, len(pictures), size):
            inputs = self.prepare(pictures[start : start + size], prompts[start : start + size])
            inputs = {name: value.to(self._network.device) for name, value in inputs.items()}
            tokens = inputs["input_ids"]
            # The published code counts positions through text and picture alike, not by the picture's rows and columns.
            places = torch.arange(tokens.shape[1], device=tokens.device).expand(3, *tokens.shape)
            hidden = self._network.model(**inputs, position_ids=places, use_cache=False).last_hidden_state
            found = self._head(hidden[tokens == self._reward_id].float())
            scores.append(found[:, 0].cpu().numpy())
        return np.concatenate(scores)

    def prepare(self, pictures: Sequence[Picture], prompts: Sequence[str]) -> dict[str, Tensor]:
        """Return the network's inputs: pictures scaled by Pillow's bicubic filter, tokens filled up at the right."""
        images = [self._scaled(picture) for picture in pictures]
        seen = self._pixels(images=images, do_resize=False, return_tensors="pt")
        counts = seen["image_grid_thw"].prod(dim=1) // self._pixels.merge_size**2
        texts = [self._text(prompt, int(count)) for prompt, count in zip(prompts, counts, strict=True)]
        read = self._tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
        return {**seen, **read}

    def _text(self, prompt: str, num_tokens: int) -> str:
        """Return the whole text for a picture that is seen as a number of tokens."""
        if held := [token for token in self._tokenizer.all_special_tokens if token in prompt]:
            raise ValueError(f"HPSv3: expected a prompt without control tokens, found {held[0]} in {prompt[:80]!r}")
        said = {"type": "text", "text": self._instruction.replace(_PLACE, prompt)}
        chat = [{"role": "user", "content": [{"type": "image"}, said]}]
        text: str = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return text.replace(self._picture_token, self._picture_token * num_tokens)

    def _scaled(self, picture: Picture) -> Image.Image:
        pixels = rgb(picture)
        rows, columns = fitting_size(pixels.shape[0], pixels.shape[1], self._config.pixels)
        return Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BICUBIC)

    def _vocabulary(self, tensors: Mapping[str, Tensor], where: str) -> int:
        """Return the number of tokens that the weights know, which must be the tokenizer's."""
        names = [name for name in tensors if name.endswith("embed_tokens.weight")] or ["model.embed_tokens.weight"]
        known, _ = shape_of(tensors, names[0], 2, where)
        if self._reward_id >= known:
            raise ValueError(
                f"{self._config.base}: expected the tokenizer of {where} with {known} tokens, found "
                f"{len(self._tokenizer)} with {REWARD_TOKEN}"
            )
        return known


def fitting_size(height: int, width: int, pixels: int, *, side: int = _SIDE) -> tuple[int, int]:
    """Return the size in px to which Qwen2-VL scales a picture, as height and width, both multiples of ``side``.

    The picture is scaled to at most ``pixels`` where it was larger, and to at least ``pixels`` where it was smaller,
    with its ratio kept as far as multiples allow.
    """
    rows, columns = (max(side, round(length / side) * side) for length in (height, width))
    factor = math.sqrt(pixels / (height * width))
    if rows * columns > pixels:
        return math.floor(height * factor / side) * side or side, math.floor(width * factor / side) * side or side
    if rows * columns < pixels:
        return math.ceil(height * factor / side) * side, math.ceil(width * factor / side) * side
    return rows, columns


def read_instruction(config: Hps3Config) -> str:
    """Return the instruction with ``{text_prompt}`` and the reward token, from the published source file.

    The file is parsed, never run.

    Raises:
        ValueError: The file is no Python, lacks the texts, or holds another instruction.
        PinnedFileError: The download failed, or the checksum differs.
    """
    where = config.instruction.uri
    found = assigned_literals(config.instruction.read(), where)
    texts = {name: text for name, text in found.items() if isinstance(text, str)}
    parts = [texts.get(name, "") for name in ("INSTRUCTION", "prompt_with_special_token")]
    text = "".join(parts)
    if _PLACE not in parts[0] or text.count(REWARD_TOKEN) != 1:
        raise ValueError(
            f"{where}: expected INSTRUCTION with {_PLACE} and prompt_with_special_token with {REWARD_TOKEN}, found "
            f"{', '.join(sorted(texts)) or 'no texts'}"
        )
    digest = hashlib.sha256(text.encode()).hexdigest()
    if config.instruction_sha256 not in (None, digest):
        raise ValueError(
            f"{where}: expected the instruction with sha256 {config.instruction_sha256}, found {digest}; the weights "
            "were trained with another text"
        )
    return text


def _head(tensors: Mapping[str, Tensor], where: str) -> nn.Sequential:
    """Return the layers that turn a hidden state into mean and deviation, in float32."""
    sizes = [shape_of(tensors, f"{place}.weight", 2, f"{where}, {_HEAD}*") for place in (0, 3, 5)]
    layers = [nn.Linear(width, out) for out, width in sizes]
    # Dropout keeps its place, since the file numbers the layers.
    head = nn.Sequential(layers[0], nn.ReLU(), nn.Dropout(0.05), layers[1], nn.ReLU(), layers[2])
    load_weights(head, {name: value.float() for name, value in tensors.items()}, where=where)
    return head
