"""One owner per folder: a lease kept alive by heart-beats, and a token that every write in the folder checks.

Imports ``infinity.storage.backends`` and what that imports. Start with ``lease.py``.
"""
