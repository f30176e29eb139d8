"""Commands about scores: evaluate, compare, list published scores, measure distances, keep champions.

Imports the console and, inside the commands, the library. Start with ``scores.py``.
"""
