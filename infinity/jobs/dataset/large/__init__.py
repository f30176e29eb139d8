"""Data sets that are decided in parts, so that no process holds all rows. Start with ``build.py``."""
