"""What a tokenizer learns (paper 3.2): to give pictures back through its bits; the discriminator; the collapse check.

Start with ``objective.py``.
"""
