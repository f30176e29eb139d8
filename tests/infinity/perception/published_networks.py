"""Networks under the names of the published files of HPSv2 and ImageReward, written out layer by layer.

They make tiny random files in these layouts, and say what numbers such files must give.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infinity.perception.hps import HpsConfig
from infinity.perception.image_reward import ImageRewardConfig
from infinity.storage import sha256
from infinity.storage.pinned import PinnedFile

from .tiny_networks import bert_vocabulary, write_clip


class OpenClipBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 3 * width), "c_proj": nn.Linear(3 * width, width)})

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))


class OpenClipTower(nn.Module):
    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(OpenClipBlock(width, heads) for _ in range(depth))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class OpenClipVision(nn.Module):
    def __init__(self, width: int, heads: int, depth: int, patch: int, grid: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn(grid * grid + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = OpenClipTower(width, heads, depth)
        self.proj = nn.Parameter(torch.randn(width, out))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv1(pixels).flatten(2).mT
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class OpenClip(nn.Module):
    """A ViT CLIP of open_clip: both towers, the text read at its largest token."""

    def __init__(self, vocabulary: int, *, out: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.visual = OpenClipVision(16, heads, 2, 4, 3, out)
        self.transformer = OpenClipTower(12, heads, 3)
        self.token_embedding = nn.Embedding(vocabulary, 12)
        self.positional_embedding = nn.Parameter(torch.randn(77, 12))
        self.ln_final = nn.LayerNorm(12)
        self.text_projection = nn.Parameter(torch.randn(12, out))
        self.logit_scale = nn.Parameter(torch.tensor(4.6))

    def read(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        x = self.ln_final(self.transformer(x, torch.full((length, length), -torch.inf).triu(1)))
        return x[torch.arange(len(x)), tokens.argmax(dim=1)] @ self.text_projection


class BlipBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 2 * width), "fc2": nn.Linear(2 * width, width)})
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = self.attn["qkv"](self.norm1(x)).chunk(3, dim=-1)
        x = x + self.attn["proj"](attend(queries, keys, values, self.heads))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class BlipVision(nn.Module):
    def __init__(self, width: int, heads: int, depth: int, patch: int, grid: int) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, stride=patch)})
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, grid * grid + 1, width))
        self.blocks = nn.ModuleList(BlipBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embed["proj"](pixels).flatten(2).mT
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class BertAttention(nn.Module):
    def __init__(self, width: int, seen: int, heads: int) -> None:
        super().__init__()
        parts = {"query": nn.Linear(width, width), "key": nn.Linear(seen, width), "value": nn.Linear(seen, width)}
        self.self = nn.ModuleDict(parts)
        self.output = nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": nn.LayerNorm(width, eps=1e-12)})
        self.heads = heads

    def forward(self, x: Tensor, seen: Tensor, mask: Tensor | None) -> Tensor:
        parts = self.self["query"](x), self.self["key"](seen), self.self["value"](seen)
        return self.output["LayerNorm"](self.output["dense"](attend(*parts, self.heads, mask)) + x)


class BertLayer(nn.Module):
    def __init__(self, width: int, seen: int, heads: int) -> None:
        super().__init__()
        self.attention, self.crossattention = BertAttention(width, width, heads), BertAttention(width, seen, heads)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, 2 * width)})
        parts = {"dense": nn.Linear(2 * width, width), "LayerNorm": nn.LayerNorm(width, eps=1e-12)}
        self.output = nn.ModuleDict(parts)

    def forward(self, x: Tensor, mask: Tensor, seen: Tensor) -> Tensor:
        x = self.crossattention(self.attention(x, x, mask), seen, None)
        inner = self.output["dense"](F.gelu(self.intermediate["dense"](x)))
        return self.output["LayerNorm"](inner + x)


class BertText(nn.Module):
    def __init__(self, vocabulary: int, width: int, seen: int, heads: int, depth: int) -> None:
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.register_buffer("position_ids", torch.arange(40)[None])
        self.embeddings.word_embeddings = nn.Embedding(vocabulary, width)
        self.embeddings.position_embeddings = nn.Embedding(40, width)
        self.embeddings.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(BertLayer(width, seen, heads) for _ in range(depth))})

    def forward(self, tokens: Tensor, mask: Tensor, seen: Tensor) -> Tensor:
        places = self.embeddings.position_embeddings.weight[: tokens.shape[1]]
        x = self.embeddings.LayerNorm(self.embeddings.word_embeddings(tokens) + places)
        for layer in self.encoder["layer"]:
            x = layer(x, mask, seen)
        return x


class OriginalImageReward(nn.Module):
    """BLIP's picture encoder, its text encoder that looks at the picture, and the stack that reads the first token."""

    def __init__(self, vocabulary: int, *, heads: int = 2) -> None:
        super().__init__()
        self.blip = nn.Module()
        self.blip.visual_encoder = BlipVision(12, heads, 2, 4, 3)
        self.blip.text_encoder = BertText(vocabulary, 16, 12, heads, 3)
        self.blip.vision_proj, self.blip.text_proj = nn.Linear(12, 4), nn.Linear(16, 4)
        widths = (16, 1024, 128, 64, 16, 1)
        parts: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(widths)):
            parts += [nn.Linear(before, after)] + ([nn.Dropout(0.1)] if number < 3 else [])
        self.mlp = nn.ModuleDict({"layers": nn.Sequential(*parts)})

    def forward(self, pixels: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        read = self.blip.text_encoder(tokens, mask, self.blip.visual_encoder(pixels))
        return (self.mlp["layers"](read[:, 0])[:, 0] - 0.16717362830052426) / 1.0333394966054072


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Softmax attention; ``mask`` is 1 where a key may be looked at."""
    split = [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (queries, keys, values)]
    scores = split[0] @ split[1].mT / math.sqrt(split[0].shape[-1])
    if mask is not None:
        scores = scores.masked_fill(mask[:, None, None] == 0, -1e4)
    return (scores.softmax(dim=-1) @ split[2]).transpose(1, 2).flatten(2)


def randomise(network: nn.Module) -> None:
    """Weights of which each matters."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    network.eval().requires_grad_(False)


def write_hps(folder: Path) -> tuple[HpsConfig, OpenClip]:
    """As ``HPS_v2.1_compressed.pt`` with the tokenizer beside, and the network it was made from; 12 pixels a side."""
    from transformers import AutoTokenizer

    tokenizer = write_clip(folder / "clip")
    network = OpenClip(len(AutoTokenizer.from_pretrained(tokenizer)))
    randomise(network)
    torch.save({"epoch": 1, "state_dict": network.state_dict()}, folder / "HPS_v2.1_compressed.pt")
    file = PinnedFile(uri=str(folder / "HPS_v2.1_compressed.pt"), sha256=sha256(str(folder / "HPS_v2.1_compressed.pt")))
    return HpsConfig(weights=file, tokenizer=tokenizer, vision_heads=2, text_heads=2, batch_size=3), network


def write_image_reward(folder: Path) -> tuple[ImageRewardConfig, OriginalImageReward]:
    """As ``ImageReward.pt`` with the tokenizer beside, and the network it was made from; 12 pixels a side."""
    from transformers import BertTokenizerFast

    (folder / "bert").mkdir(parents=True, exist_ok=True)
    vocabulary = bert_vocabulary()
    BertTokenizerFast(vocab=vocabulary, model_max_length=40).save_pretrained(folder / "bert")
    network = OriginalImageReward(len(vocabulary) + 2)
    randomise(network)
    torch.save(network.state_dict(), folder / "ImageReward.pt")
    file = PinnedFile(uri=str(folder / "ImageReward.pt"), sha256=sha256(str(folder / "ImageReward.pt")))
    config = ImageRewardConfig(
        weights=file, tokenizer=str(folder / "bert"), vision_heads=2, text_heads=2, max_tokens=9, batch_size=3
    )
    return config, network
