"""Every switch of a training against the training without it: ``python -m benchmarks.switches``.

Start with ``rules.py``, which says when a switch counts as changing nothing (decision 36).
"""
