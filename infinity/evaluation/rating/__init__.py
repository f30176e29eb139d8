"""A human-preference study over pairs of pictures (paper, figure 5): choices of raters in, win rates and Elo out.

Start with ``votes.py``.
"""
