"""T2I-CompBench: scores that its own scripts wrote beside pictures, read with intervals and provenance.

Start with ``score_files.py`` (files in, answers per picture out), then ``benchmark.py``.
"""
