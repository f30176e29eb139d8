"""HPSv2 (arXiv:2306.09341): how much people would like a picture for its prompt, by a CLIP tuned on their choices.

The published files (``HPS_v2.1_compressed.pt``) hold a ViT-H/14 under the names of open_clip; it is loaded as a CLIP of
transformers. Pictures are prepared as the public scorer does: the longer side is scaled to 224 pixels and the rest is
black, so that nothing is cut off.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ftfy
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from infinity.config import Config, digest_of
from infinity.perception.clip import Picture, PictureTextEncoder, rgb
from infinity.perception.loading import build, folder_digest, load_tokenizer, read_tensors, shape_of, tokenizer_folder
from infinity.perception.squares import normalise
from infinity.ranges import Count, ModelName
from infinity.storage.pinned import PinnedFile

Version = Literal["v2.1", "v2.0"]

_HUB = "https://huggingface.co/xswu/HPSv2/resolve/main/"
PUBLISHED: dict[Version, PinnedFile] = {
    "v2.1": PinnedFile(uri=_HUB + "HPS_v2.1_compressed.pt"),
    "v2.0": PinnedFile(uri=_HUB + "HPS_v2_compressed.pt"),
}
"""The published weights; no checksums were published with them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HpsConfig(Config):
    """Configuration of HPSv2.

    Attributes:
        version: Version; scores of different versions do not compare.
        weights: File of the weights; None is the published one of the version.
        tokenizer: Local folder or hub name of CLIP's tokenizer, which the weights file does not hold.
        antialias: Whether shrinking averages, as torchvision does since 0.17; earlier versions did not, and the public
            scorer accepts any version.
        vision_heads: Attention heads for pictures, which the file does not state.
        text_heads: Attention heads for prompts.
        batch_size: Pictures or prompts per batch.
    """

    version: Version = "v2.1"
    weights: PinnedFile | None = None
    tokenizer: ModelName = "openai/clip-vit-large-patch14"
    antialias: bool = True
    vision_heads: Count = 16
    text_heads: Count = 16
    batch_size: Count = 32

    @property
    def file(self) -> PinnedFile:
        """The weights file of the configuration."""
        return self.weights or PUBLISHED[self.version]

    def weights_digest(self) -> str:
        """Return 16 digits that name all that a score depends on besides picture and prompt."""
        about = [self.vision_heads, self.text_heads, self.antialias]
        return digest_of([self.file.content_digest(), folder_digest(tokenizer_folder(self.tokenizer)), about])


class Hps(PictureTextEncoder):
    """HPSv2 in evaluation mode, float32.

    Raises:
        ValueError: A file or tokenizer is missing, tensors are missing or misshapen, or the tokenizer's vocabulary
            differs.
        PinnedFileError: The download failed, or the checksum differs.
        StorageError: A file cannot be read.
    """

    def __init__(self, config: HpsConfig, device: str = "cpu") -> None:
        # Imported here: transformers takes seconds to import.
        from transformers import CLIPModel

        self._tokenizer: Any = load_tokenizer(config.tokenizer)
        tensors, where = read_tensors(config.file), config.file.uri
        architecture = _architecture(tensors, config, where)
        super().__init__(build(CLIPModel, architecture, translate(tensors), where), config.batch_size, device)
        self._side_px, self._antialias = int(architecture.vision_config.image_size), config.antialias
        end, last = self._tokenizer.eos_token_id, int(architecture.text_config.vocab_size) - 1
        if end != last:
            raise ValueError(
                f"{config.tokenizer}: expected the tokenizer of {where}, whose closing token is {last}, found {end}"
            )

    def prepare(self, pictures: Sequence[Picture]) -> Float[Tensor, "n 3 S S"]:
        """Return pictures fitted into a black square, with levels normalised."""
        squares = [fit(rgb(picture), self._side_px, antialias=self._antialias) for picture in pictures]
        return normalise(torch.stack(squares))

    def tokens(self, texts: Sequence[str]) -> Mapping[str, Tensor]:
        """Return tokens of texts that were cleaned as the public tokenizer does; at most 77 per text."""
        tokens: Mapping[str, Tensor] = self._tokenizer(
            [clean(text) for text in texts], padding=True, truncation=True, max_length=self.max_tokens,
            return_tensors="pt",
        )  # fmt: skip
        return tokens


def fit(picture: np.ndarray, side_px: int, *, antialias: bool) -> Float[Tensor, "3 S S"]:
    """Return a picture with its longer side at ``side_px``, black around; bicubic in float, not clipped, 0 to 1."""
    # A copy, since pictures of a store may be read-only, and torch warns of those.
    levels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    height, width = levels.shape[1:]
    scale = side_px / max(height, width)
    if scale != 1.0:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        resized = F.interpolate(levels[None], size, mode="bicubic", align_corners=False, antialias=antialias)
        levels = resized[0]
    down, right = side_px - levels.shape[1], side_px - levels.shape[2]
    return F.pad(levels, (right // 2, right - right // 2, down // 2, down - down // 2))


def clean(text: str) -> str:
    """Return a text with repaired characters, entities unescaped twice, single blanks, in lower case."""
    mended = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(mended.split()).lower()


_NAMES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}
_TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
_IN_BLOCK = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}  # fmt: skip


def translate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of an open_clip vision transformer under the names of transformers' CLIP; others keep theirs."""
    translated: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name in _TRANSPOSED:
            translated[_TRANSPOSED[name]] = value.t().contiguous()
        elif match := _BLOCK.fullmatch(name):
            tower = "vision_model" if match[1] else "text_model"
            translated |= _in_block(f"{tower}.encoder.layers.{match[2]}", match[3], value)
        else:
            translated[_NAMES.get(name, name)] = value
    return translated


def _in_block(block: str, name: str, value: Tensor) -> dict[str, Tensor]:
    module, _, kind = name.rpartition(".")
    if module == "attn" and kind.startswith("in_proj_"):
        parts = zip(("q_proj", "k_proj", "v_proj"), value.chunk(3), strict=True)
        return {f"{block}.self_attn.{part}.{kind.removeprefix('in_proj_')}": piece for part, piece in parts}
    return {f"{block}.{_IN_BLOCK.get(module, module)}.{kind}": value}


def _architecture(tensors: Mapping[str, Tensor], config: HpsConfig, where: str) -> Any:
    """Return the configuration that fits the tensors' shapes."""
    from transformers import CLIPConfig

    width, _, patch, _ = shape_of(tensors, "visual.conv1.weight", 4, where)
    positions, _ = shape_of(tensors, "visual.positional_embedding", 2, where)
    vocabulary, text_width = shape_of(tensors, "token_embedding.weight", 2, where)
    layers = {prefix: {int(m[2]) for name in tensors if (m := _BLOCK.fullmatch(name)) and m[1] == prefix}
              for prefix in ("visual.", None)}  # fmt: skip
    vision, _ = shape_of(tensors, "visual.transformer.resblocks.0.mlp.c_fc.weight", 2, where)
    text, _ = shape_of(tensors, "transformer.resblocks.0.mlp.c_fc.weight", 2, where)
    return CLIPConfig(
        projection_dim=shape_of(tensors, "text_projection", 2, where)[1],
        vision_config={
            "hidden_size": width, "intermediate_size": vision, "num_hidden_layers": len(layers["visual."]),
            "num_attention_heads": config.vision_heads, "patch_size": patch, "hidden_act": "gelu",
            "image_size": patch * math.isqrt(positions - 1),
        },
        text_config={
            "hidden_size": text_width, "intermediate_size": text, "num_hidden_layers": len(layers[None]),
            "num_attention_heads": config.text_heads, "vocab_size": vocabulary, "hidden_act": "gelu",
            "max_position_embeddings": shape_of(tensors, "positional_embedding", 2, where)[0],
            "bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1,
        },
    )  # fmt: skip
