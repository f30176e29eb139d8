"""Records of a run beside its outputs: the plan of its five stages, its models, and the summary of its reports.

Imports infinity only; no other folder of flows. Start with ``plan.py``.
"""
