"""Formats of the weights in inference: bfloat16, 8-bit floating point, and 8 or 4 bits per weight.

May import the transformer. Start with ``quantized.py``.
"""
