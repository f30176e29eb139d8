"""Data loading: which samples make up step n, as a pure function, and their pixels, ready before they are needed.

May import every room of ``infinity.data``. Start with ``batches.py``; ``stream.py`` is the data loader with its
threads, ``other_trainers.py`` gives our shards to any other training loop. Decision 8 says
why a step is a function of its number.
"""
