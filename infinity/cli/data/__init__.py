"""Commands of ``infinity data``: build a data set, look at it, repair rows, find near duplicates.

Imports the console and, inside the commands, the library. Start with ``datasets.py``.
"""
