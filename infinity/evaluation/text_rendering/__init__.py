"""Text rendering: whether the words that a prompt asks for can be read in the picture.

Start with ``scoring.py`` (words in, scores out), then ``benchmark.py``.
"""
