"""The data set job: measure every row, decide, write shards and the manifest.

May import ``infinity.jobs.cluster``. Start with ``build.py``; ``spec.py`` says what a data set is built from.
"""
