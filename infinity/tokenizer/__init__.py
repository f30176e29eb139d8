"""The bitwise tokenizer: images to pyramids of bits and back (paper section 3.2)."""

from infinity.tokenizer.autoencoder import AutoencoderConfig, Decoder, Encoder
from infinity.tokenizer.quantizer import QuantizerKind
from infinity.tokenizer.residual import ResidualLoop
from infinity.tokenizer.saved import load_tokenizer, save_tokenizer
from infinity.tokenizer.self_correction import TeacherForcing, draw_flips, teacher_forcing
from infinity.tokenizer.tokenizer import Quantized, Tokenizer, TokenizerConfig, TokenizerOutput

__all__ = [
    "AutoencoderConfig",
    "Decoder",
    "Encoder",
    "Quantized",
    "QuantizerKind",
    "ResidualLoop",
    "TeacherForcing",
    "Tokenizer",
    "TokenizerConfig",
    "TokenizerOutput",
    "draw_flips",
    "load_tokenizer",
    "save_tokenizer",
    "teacher_forcing",
]
