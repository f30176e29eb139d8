"""Upkeep of a root of runs: what lies there, what needs what, what may go, and where every run stands.

Start with ``rules.py``. May import all other folders of ``infinity.jobs`` but ``estimate`` and ``doctor``.
"""
