"""Small files in the published formats with random weights, a T5 that fits them, and pictures to train on."""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
import torch
import transformers
from PIL import Image
from torch import Tensor

from infinity.convert import tokenizer_to_published, transformer_to_published
from infinity.tokenizer import Tokenizer, TokenizerConfig
from infinity.transformer import Transformer, TransformerConfig

TOKENIZER = TokenizerConfig(
    num_bits=16, base_width=32, encoder_multipliers=(1,) * 5, decoder_multipliers=(1,) * 5, num_res_blocks=1
)
TRANSFORMER = TransformerConfig(width=64, num_heads=2, depth=2, num_bits=16, text_channels=128)


def published_tensors(seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A transformer and a tokenizer under published names."""
    tokenizer, transformer = Tokenizer(TOKENIZER), Transformer(TRANSFORMER)
    tokenizer.init_weights(torch.Generator().manual_seed(seed))
    transformer.init_weights(torch.Generator().manual_seed(seed + 1))
    return (
        transformer_to_published(TRANSFORMER, transformer.state_dict(), num_chunks=2),
        tokenizer_to_published(TOKENIZER, tokenizer.state_dict()),
    )


def write_published(folder: Path) -> None:
    """``model.pth`` and ``vae.pth``."""
    transformer, tokenizer = published_tensors()
    torch.save(transformer, folder / "model.pth")
    torch.save({"vae": tokenizer}, folder / "vae.pth")


def write_t5(folder: Path, *, seed: int = 0, channels: int = 128, dtype: torch.dtype = torch.float32) -> None:
    """A T5 encoder with a tokenizer of some words."""
    words = [f"{a} {b} {c}" for a in ("a", "two") for b in ("red", "blue", "old") for c in ("cat", "cube", "boat")]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(seed)
    config = transformers.T5Config(vocab_size=128, d_model=channels, d_kv=32, d_ff=64, num_layers=1, num_heads=4)
    transformers.T5EncoderModel(config).to(dtype).save_pretrained(folder)


def write_pictures(folder: Path, count: int = 6, side_px: int = 256) -> None:
    """An image folder with captions."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(count):
        Image.effect_noise((side_px, side_px), 40 + 10 * number).convert("RGB").save(folder / f"{number}.png")
        rows.append({"file_name": f"{number}.png", "text": f"a blue cube number {number}"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
