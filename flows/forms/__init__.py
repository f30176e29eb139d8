"""Forms: what a person may set on a flow's page before it starts, and how it changes the specs of a recipe.

Imports infinity and pydantic; no other folder of flows. Start with ``parameters.py``.
"""
