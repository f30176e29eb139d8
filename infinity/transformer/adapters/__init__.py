"""Low-rank adapters (LoRA, DoRA) of a transformer, and the files that hold them.

May import the transformer. Start with ``lora.py``.
"""
