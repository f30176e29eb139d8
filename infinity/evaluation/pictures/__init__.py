"""Pictures that are scored: drawn by the model and kept in a store, or drawn elsewhere.

One reader serves everything that is scored. Start with ``store.py``; ``table.py`` reads tables of prompt and file.

One reader serves everything that is scored. Start with ``store.py``; ``found.py`` recognises the layouts of GenEval,
"""
