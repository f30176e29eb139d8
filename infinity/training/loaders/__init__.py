"""Loaders of a training: pictures, or latents and text features, computed or read from a store.

Start with ``pictures.py`` and ``latents.py``.
"""
