"""Pages of runs: tables, pictures with links, and the bar that moves, as Prefect artifacts.

Imports infinity, infra and ``flows.operations``. Start with ``results.py``.
"""
