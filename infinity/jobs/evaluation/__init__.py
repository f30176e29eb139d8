"""Evaluation jobs: score models on benchmarks in parallel, with the same scores for any number of workers.

May import ``infinity.jobs.cluster``. Start with ``spec.py`` and ``evaluate.py``; ``results.py`` reads a finished
evaluation back.
"""
