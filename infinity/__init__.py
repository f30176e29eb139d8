"""Infinity: bitwise autoregressive text-to-image models (arXiv:2412.04431), from pictures to a scored model."""

__version__ = "0.1.0"
