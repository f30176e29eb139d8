"""Networks that rate a picture as people would: aesthetics, HPSv2, ImageReward.

Imports the base of ``infinity.perception`` (loading, clip, squares). Start with ``hps.py``.
"""
