"""Fast twins of plain formulas: the same numbers with less time or memory on a CPU.

Each has an equality test against the plain formula and a line in ``benchmarks``. Imports torch and ``scales`` only.
Start with ``blocks.py`` (unit queries and keys); ``winograd.py`` is a convolution for decoding.
"""
