"""A tiny tokenizer, text encoder and transformer that fit each other."""

import torch

from infinity.scales import Resolution
from infinity.text import BuiltinTextConfig, BuiltinTextEncoder
from infinity.tokenizer import Tokenizer
from infinity.transformer import Transformer
from tests.infinity.training.pictures import TOKENIZER
from tests.infinity.transformer.tiny import TEXT_CHANNELS, random_transformer, tiny_config

RESOLUTION = Resolution(sides=(1, 2, 3, 4))
SCHEDULE = RESOLUTION.schedule(1.0)
TEXT = BuiltinTextConfig(channels=TEXT_CHANNELS, max_tokens=8)
PROMPTS = ("a red cube", "", "two blue balls left of a cat", "a dog")
SEEDS = (1, 2, 3, 4)


def tiny_tokenizer(*, fold: bool = False) -> Tokenizer:
    """6 bits a token without folding, 8 with; stride 4 pixels without folding, 8 with."""
    config = TOKENIZER.replace(
        num_bits=2 if fold else 6, encoder_multipliers=(1, 1, 1), decoder_multipliers=(1, 1, 1), fold=fold
    )
    tokenizer = Tokenizer(config)
    tokenizer.init_weights(torch.Generator().manual_seed(0))
    return tokenizer.eval().requires_grad_(False)


def tiny_parts(**changes: object) -> tuple[Transformer, Tokenizer, BuiltinTextEncoder]:
    """What ``generate`` takes."""
    return random_transformer(tiny_config(**changes)), tiny_tokenizer(), BuiltinTextEncoder(TEXT)
