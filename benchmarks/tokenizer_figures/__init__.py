"""Figures of the tokenizer from small trainings: ``python -m benchmarks.tokenizer_figures``.

Start with ``runs.py``, the trainings themselves.
"""
