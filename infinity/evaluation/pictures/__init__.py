"""Pictures that are scored: drawn by the model and kept in a store, or drawn elsewhere.

One reader serves everything that is scored. Start with ``store.py``; ``table.py`` reads tables of prompt and file,
``shards.py`` tar shards, and ``files.py`` knows endings and digests. Layouts of folders are in ``prompts/found.py``.
"""
