"""Curves, charts and histograms, and which of a training's values are good (decision 33).

Imports no other module of ``infinity.reporting``. Start with ``charts.py``.
"""
