"""Figures about models and pictures: measures cut into parts, states that add up, scores with their protocol."""
