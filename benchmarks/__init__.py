"""Timings of the parts that decide how long things take; ``python -m benchmarks.run --help``."""
