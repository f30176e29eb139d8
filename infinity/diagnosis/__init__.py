"""Diagnosis of a training: is it healthy, and if not, which of the known faults is the likeliest, on what evidence?

May import everything below the command line. Start with ``diagnose.py``; ``settings.py`` compares specs, ``weights.py``
and ``pictures.py`` measure.
"""
