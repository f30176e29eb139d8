"""Pages and JSON files about runs, models and comparisons, made from plain summaries; no job is imported.

Start with ``summary.py`` (what goes in) and ``render.py`` (the page of a run); ``page/`` holds the templates.
"""
