"""Scores: the promises of the gate, the pace of Inception, words that are read."""
