"""Optimizers and where their moments lie: AdamW, Muon, moments in 8 bits or on the CPU.

May import ``infinity.training.distributed``. Start with ``optimizer.py``.
"""
