"""What happens in which order: the stages as Prefect flows. No tensors here, and the only room that imports prefect.

Here lie one file per flow and the commands ``python -m flows.demo``, ``flows.pool`` and ``flows.server``. What they
share is in folders: ``stages`` stands on ``pages``, ``pages`` on ``operations``; ``forms`` and ``records`` stand alone.
Imports infinity and infra. Start with ``end_to_end.py``, then ``stages/stage.py``.
"""
