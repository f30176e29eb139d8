"""Networks that find something in a picture: objects, their colours, text, unsafe content, watermarks.

Imports the base of ``infinity.perception`` (loading, clip). Start with ``mask2former.py``.
"""
