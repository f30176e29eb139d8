"""Time the parts of the system, one JSON line per item: ``python -m benchmarks.run``.

Start with ``transformer.py``: the reference-sized training pass that other benchmarks use too.
"""
