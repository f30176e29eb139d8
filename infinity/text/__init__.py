"""Text encoders: captions to packed features, by Flan-T5 or by a built-in encoder that needs no download.

May import ``infinity.config`` and ``infinity.storage``. Start with ``encoder.py``.
"""

from infinity.text.builtin import BuiltinTextConfig, BuiltinTextEncoder
from infinity.text.condition import TextCondition
from infinity.text.encoder import TextConfig, TextEncoder, build_text_encoder, difference, with_found_folder
from infinity.text.t5 import T5TextConfig, T5TextEncoder

__all__ = [
    "BuiltinTextConfig",
    "BuiltinTextEncoder",
    "T5TextConfig",
    "T5TextEncoder",
    "TextCondition",
    "TextConfig",
    "TextEncoder",
    "build_text_encoder",
    "difference",
    "with_found_folder",
]
