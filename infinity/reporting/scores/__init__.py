"""Pages and files about scores: model card, leaderboard, published rows, sweep, savings, blind rating.

May import the parts of ``infinity.reporting`` above this folder. Start with ``card.py``.
"""
