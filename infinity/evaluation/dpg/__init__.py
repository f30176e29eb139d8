"""DPG-Bench (arXiv:2403.05135): questions about a picture that depend on each other, answered by a VQA model.

Start with ``scoring.py`` (answers in, score out), then ``benchmark.py``.
"""
