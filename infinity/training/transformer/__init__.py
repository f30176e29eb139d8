"""What a transformer learns (paper 3.3, 3.4): the bits of every scale; adapters (LoRA); attention kernel and compiler.

Start with ``objective.py``.
"""
