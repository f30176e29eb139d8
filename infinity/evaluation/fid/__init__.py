"""Distances between sets of pictures by Inception features: FID, KID, Inception Score, precision and recall.

Start with ``distribution.py``; ``frechet.py`` is the formula, ``preparation.py`` the four published ways to resize a
picture.
"""
