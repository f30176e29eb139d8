"""GenEval (arXiv:2310.11513): are the objects of a templated prompt in the picture? Official set and drawn scenes.

Start with ``scoring.py`` (detections in, verdict out); ``benchmark.py`` is the official set, ``scenes.py`` the drawn
one.
"""
