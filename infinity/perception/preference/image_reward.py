"""ImageReward 1.0 (arXiv:2304.05977): how people would rate a picture for its prompt, about -2 to 2.

It is a BLIP whose text encoder attends to the picture; a stack of linear layers reads the first token. The published
file ``ImageReward.pt`` uses the names of the original BLIP; it is loaded as a BLIP of transformers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from PIL import Image
from torch import Tensor

from infinity.checkpoint import load_weights
from infinity.config import Config, digest_of
from infinity.perception.clip import Picture, rgb
from infinity.perception.loading import build, folder_digest, load_tokenizer, read_tensors, shape_of, tokenizer_folder
from infinity.perception.preference.aesthetic import AestheticHead
from infinity.perception.squares import centre_square, normalise
from infinity.ranges import Count, Range
from infinity.storage.pinned import PinnedFile

STANDARD = PinnedFile(uri="https://huggingface.co/THUDM/ImageReward/resolve/main/ImageReward.pt")
"""The published weights of version 1.0; no checksum was published with them."""

REWARD_MEAN, REWARD_DEVIATION = 0.16717362830052426, 1.0333394966054072
"""Mean and deviation of the head's outputs on the authors' pictures, by which rewards are normalised."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRewardConfig(Config):
    """Configuration of ImageReward.

    Attributes:
        weights: File of the weights.
        tokenizer: Local folder or hub name of BERT's uncased tokenizer, which the file does not hold.
        max_tokens: Largest number of tokens per prompt; longer prompts are cut.
        vision_heads: Attention heads for pictures, which the file does not state.
        text_heads: Attention heads for prompts.
        batch_size: Pictures per batch.
    """

    weights: PinnedFile = STANDARD
    tokenizer: str = "google-bert/bert-base-uncased"
    max_tokens: Annotated[int, Range(3)] = 35
    vision_heads: Count = 16
    text_heads: Count = 12
    batch_size: Count = 32

    def weights_digest(self) -> str:
        """Return 16 digits that name all that a score depends on besides picture and prompt."""
        about = [self.vision_heads, self.text_heads, self.max_tokens]
        return digest_of([self.weights.content_digest(), folder_digest(tokenizer_folder(self.tokenizer)), about])


class ImageReward:
    """ImageReward in evaluation mode, float32.

    Raises:
        ValueError: A file or tokenizer is missing, tensors are missing or misshapen, or the tokenizer's vocabulary
            differs.
        CheckpointError: The head's tensors are missing or of other shapes.
        PinnedFileError: The download failed, or the checksum differs.
        StorageError: A file cannot be read.
    """

    def __init__(self, config: ImageRewardConfig, device: str = "cpu") -> None:
        # Imported here: transformers takes seconds to import.
        from transformers import BlipTextModel, BlipVisionModel

        self._config = config
        self._tokenizer: Any = load_tokenizer(config.tokenizer)
        tensors, where = read_tensors(config.weights), config.weights.uri
        vision, text, head = translate(tensors)
        seeing, reading = _seeing(tensors, config, where), _reading(tensors, config, where)
        if len(self._tokenizer) > reading.vocab_size:
            raise ValueError(
                f"{config.tokenizer}: expected the tokenizer of {where} with at most {reading.vocab_size} tokens, "
                f"found {len(self._tokenizer)}"
            )
        self._vision: Any = build(BlipVisionModel, seeing, vision, where)
        self._text: Any = build(BlipTextModel, reading, text, where, add_pooling_layer=False)
        self._head = AestheticHead(reading.hidden_size)
        load_weights(self._head, head, where=where)
        self._side_px = int(seeing.image_size)
        for part in (self._vision, self._text, self._head):
            part.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Picture], prompts: Sequence[str]) -> Float32[np.ndarray, " n"]:
        """Return the normalised reward of each picture for the prompt at the same place."""
        if len(pictures) != len(prompts):
            raise ValueError(f"expected as many prompts as pictures, got {len(prompts)} and {len(pictures)}")
        rewards, size = [np.zeros(0, np.float32)], self._config.batch_size
        for start in range(0, len(pictures), size):
            pixels = self.prepare(pictures[start : start + size]).to(self._vision.device)
            tokens = self._tokenizer(
                list(prompts[start : start + size]), padding="max_length", truncation=True,
                max_length=self._config.max_tokens, return_tensors="pt",
            ).to(self._vision.device)  # fmt: skip
            seen = self._vision(pixels).last_hidden_state
            read = self._text(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], encoder_hidden_states=seen,
                encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device),
            )  # fmt: skip
            found = (self._head(read.last_hidden_state[:, 0]) - REWARD_MEAN) / REWARD_DEVIATION
            rewards.append(found.float().cpu().numpy())
        return np.concatenate(rewards)

    def prepare(self, pictures: Sequence[Picture]) -> Float[Tensor, "n 3 S S"]:
        """Return pictures scaled by the shorter side (Pillow's bicubic filter), cropped to the middle, normalised."""
        squares = [
            centre_square(Image.fromarray(rgb(picture)), self._side_px, Image.Resampling.BICUBIC)
            for picture in pictures
        ]
        return normalise(torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255)


_VISION, _TEXT, _HEAD = "blip.visual_encoder.", "blip.text_encoder.", "mlp."
_UNUSED = re.compile(r"blip\.(vision_proj|text_proj)\..*|blip\.text_encoder\.embeddings\.position_ids")
_NAMES = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
}
_IN_BLOCK = {
    "norm1": "layer_norm1", "norm2": "layer_norm2", "attn.qkv": "self_attn.qkv", "attn.proj": "self_attn.projection",
    "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2",
}  # fmt: skip


def translate(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Return the published file's tensors under the names of transformers: of pictures, of prompts, and of the head.

    The projections of BLIP's contrastive loss are left out, since no reward depends on them.

    Raises:
        ValueError: A tensor does not belong to an ImageReward.
    """
    vision: dict[str, Tensor] = {}
    text: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if _UNUSED.fullmatch(name):
            continue
        if name.startswith(_VISION):
            vision[_of_vision(name.removeprefix(_VISION))] = value
        elif name.startswith(_TEXT):
            text[name.removeprefix(_TEXT)] = value
        elif name.startswith(_HEAD):
            head[name.removeprefix(_HEAD)] = value
        else:
            raise ValueError(f"expected tensors of an ImageReward (blip.…, mlp.…), found {name!r}")
    return vision, text, head


def _of_vision(name: str) -> str:
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)\.(weight|bias)", name):
        return f"encoder.layers.{match[1]}.{_IN_BLOCK.get(match[2], match[2])}.{match[3]}"
    module, dot, kind = name.rpartition(".")
    return _NAMES.get(name) or f"{_NAMES.get(module, module)}{dot}{kind}"


def _seeing(tensors: Mapping[str, Tensor], config: ImageRewardConfig, where: str) -> Any:
    """Return the configuration of the picture encoder that fits the tensors' shapes."""
    from transformers import BlipVisionConfig

    width, _, patch, _ = shape_of(tensors, f"{_VISION}patch_embed.proj.weight", 4, where)
    _, positions, _ = shape_of(tensors, f"{_VISION}pos_embed", 3, where)
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=shape_of(tensors, f"{_VISION}blocks.0.mlp.fc1.weight", 2, where)[0],
        num_hidden_layers=_depth(tensors, rf"{re.escape(_VISION)}blocks\.(\d+)\..*"),
        num_attention_heads=config.vision_heads,
        image_size=patch * math.isqrt(positions - 1),
        patch_size=patch,
        layer_norm_eps=1e-6,  # of the vision transformer that BLIP was made from; transformers' default is 1e-5
    )


def _reading(tensors: Mapping[str, Tensor], config: ImageRewardConfig, where: str) -> Any:
    """Return the configuration of the text encoder, which attends to the picture in every layer."""
    from transformers import BlipTextConfig

    vocabulary, width = shape_of(tensors, f"{_TEXT}embeddings.word_embeddings.weight", 2, where)
    layer = f"{_TEXT}encoder.layer.0."
    return BlipTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        encoder_hidden_size=shape_of(tensors, f"{layer}crossattention.self.key.weight", 2, where)[1],
        intermediate_size=shape_of(tensors, f"{layer}intermediate.dense.weight", 2, where)[0],
        num_hidden_layers=_depth(tensors, rf"{re.escape(_TEXT)}encoder\.layer\.(\d+)\..*"),
        num_attention_heads=config.text_heads,
        max_position_embeddings=shape_of(tensors, f"{_TEXT}embeddings.position_embeddings.weight", 2, where)[0],
        is_decoder=True,  # gives every layer its cross-attention; the mask stays that of an encoder
    )


def _depth(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for name in tensors if (match := re.fullmatch(pattern, name))})
