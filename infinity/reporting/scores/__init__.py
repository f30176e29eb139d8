"""Pages and files about scores: model card, leaderboard, published rows, sweep, blind rating.

May import the parts of ``infinity.reporting`` above this folder. Start with ``card.py``.
"""
