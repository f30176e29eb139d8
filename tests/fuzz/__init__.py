"""Random input at every door of the program: ``python -m tests.fuzz <door> --seconds 60 --seed 0``.

A trial passes if what it calls ends by itself within ten seconds, with a result or with an error that is meant for the
user. Every trial is a function of the seed and its number, so that one can be repeated alone with ``--trial``.
"""
