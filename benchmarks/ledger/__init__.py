"""Benchmark results over time: a file of records, a verdict on the newest, and a page.

``make bench`` adds records. Start with ``judging.py``, which says when something became slower.
"""
