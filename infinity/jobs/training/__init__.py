"""Training jobs on Ray Train: the tokenizer, the transformer (pretraining and finetuning), and stored latents.

May import ``infinity.jobs.cluster``. Start with ``transformer.py``; ``driver.py`` and ``worker.py`` are the two
processes.
"""
