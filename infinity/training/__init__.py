"""Training: one loop, two learners, and everything that a resumed run needs as one value."""
