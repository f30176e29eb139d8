"""How much people would like a picture for its prompt, by published networks: CLIP score, ImageReward, HPSv2.

Start with ``benchmark.py``.
"""
