"""Pretrained networks that score, describe or search pictures, loaded from published weights by path, hub name or URL.

Start with ``clip.py`` and ``scorers.py``; ``loading.py`` checks and loads weights (decisions 19 and 25).
"""
