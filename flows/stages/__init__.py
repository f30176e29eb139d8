"""Stages as Prefect tasks: a spec goes in, a report comes out; and the gate that an evaluation ends with.

Imports ``flows.forms``, ``flows.pages``, ``flows.records`` and ``flows.operations``. Start with ``stage.py``, then
``kinds.py``.
"""
