"""Fast twins of plain formulas: the same numbers up to rounding, with less time or memory on a CPU.

Each has its plain formula, an equality test and a line in ``benchmarks/training/kernels.py`` that shows what it earns.
Imports torch only. Start with ``switch.py``, the one place that chooses between plain and fast.
"""
