"""Benchmarks by a judge: questions about a picture, answered with probabilities, and scores that follow from them.

Start with ``suites.py`` (what GenEval 2, DSG, TIFA, TIIF, UniGenBench++ and VQAScore ask), then ``scoring.py`` (answers
in, scores out) and ``benchmark.py``.
"""
