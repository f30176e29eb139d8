"""Evaluation: benchmarks whose states add up, and scores with protocol, sample size and interval.

Each benchmark has a room: ``fid``, ``geneval``, ``dpg``, ``preference``, ``reconstruction``; ``prompts`` holds what
benchmarks over prompts share; ``promotion`` decides whether a model becomes champion. Start with ``score.py`` and
``benchmark.py``.
"""
