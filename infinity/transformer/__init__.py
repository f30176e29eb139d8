"""The bitwise transformer: captions and coarser scales in, bits of the next scale out (paper section 3)."""

from infinity.transformer.config import TransformerConfig
from infinity.transformer.model import CaptionContext, Decoding, Transformer

__all__ = ["CaptionContext", "Decoding", "Transformer", "TransformerConfig"]
