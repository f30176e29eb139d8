"""Tables in columns: Parquet and Arrow files, which may hold the pictures themselves.

Start with ``rows.py``, which says what a row holds.
"""
