"""What benchmarks over prompts share: prompt lists, rewriting, drawing, judging, gaps that are counted.

Start with ``benchmark.py``.
"""
