"""Drawn scenes: captioned pictures of coloured shapes, the data set that needs no download.

Imports nothing of ``infinity`` but ``config``. Start with ``drawing.py``; ``prompts.py`` makes captions in GenEval's
templates.
"""
