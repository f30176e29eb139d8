"""Commands about trainings: write a recipe's specs, estimate, run, show a training again.

Imports the console and, inside the commands, the library. Start with ``running.py``.
"""
