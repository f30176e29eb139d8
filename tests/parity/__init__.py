"""Replay of golden cases: our code, through the converters, against recorded tensors of the published system.

``python -m tests.parity <case folder>...`` prints one line of JSON a case and exits with 1 if any tensor or number is
beyond its tolerance, or if an expected one was not compared with anything. Recorded files of evaluation
(`evaluation.py`) are replayed too: given by their path, or found below a folder by what they hold.
"""
