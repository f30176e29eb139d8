"""Infinity: bitwise autoregressive text-to-image models (arXiv:2412.04431), from captioned pictures to scored weights."""

__version__ = "0.1.0"
