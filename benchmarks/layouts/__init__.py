"""What happens to captioned pictures in every layout that people have: ``python -m benchmarks.layouts``.

``writers.py`` writes small sources, ``cases.py`` says what must become of each.
"""
