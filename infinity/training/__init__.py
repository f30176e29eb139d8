"""Training: the loop, one optimizer step, everything a resumed run needs. No cluster here.

``loop.py`` drives ``step.py`` over the batches of a loader; a task (``tokenizer/objective.py``,
``transformer/objective.py``) gives losses. ``state.py`` is what a checkpoint holds. Start with ``loop.py``.
"""
