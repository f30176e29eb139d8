"""Bytes of a file to RGB pixels, or the reason why not.

Here: what a header says before anything is decoded, decoding within limits, resizing, and the perceptual fingerprint.
Imports nothing of ``infinity.data`` but itself. Start with ``decoding.py``.
"""
