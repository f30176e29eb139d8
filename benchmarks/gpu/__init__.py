"""The first quarter of an hour on a GPU, and what is predicted of it: ``python -m benchmarks.gpu``.

Random weights and made-up inputs. Start with ``__main__.py``; ``cases.py`` lists what is measured, most worth first.
"""
