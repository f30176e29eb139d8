"""Pictures that are scored: drawn by us and kept in a store, or found in anybody's folder.

One reader serves everything that is scored. Start with ``store.py``; ``found.py`` recognises the layouts of GenEval,
DPG-Bench and flat folders.
"""
