"""What a caller asks for and gets: arguments, drawing, editing, search, redoing, results.

Stands on ``infinity.generation.pipeline`` and below. Start with ``drawer.py``.
"""
