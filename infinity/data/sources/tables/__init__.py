"""Tables of text: JSON lines, CSV, JSON documents, lists of captions; one row per picture, or several joined.

Start with ``lines.py``, whose slices are read in pieces; ``documents.py`` and ``caption_lists.py`` have the forms that
are read whole.
"""
