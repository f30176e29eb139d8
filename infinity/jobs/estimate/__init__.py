"""Estimate memory and seconds of a training before it runs.

May import every other room of ``infinity.jobs``. Start with ``estimate.py``; ``tracing.py`` runs a step on fake
tensors.
"""
