"""Networks that read or write sentences: captions, answers about pictures, instructions.

Imports the base of ``infinity.perception`` (loading, clip). Start with ``vqa.py``.
"""
