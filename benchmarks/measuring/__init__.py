"""How things are measured: repeated runs in one process, or a command watched from outside.

Imports no other benchmark. Start with ``timing.py``.
"""
