"""Curation: measure every row once (facts), then decide by rules what is kept, and count why.

May import ``dedup``, ``sources`` and ``images`` of ``infinity.data``. Start with ``facts.py`` (what is measured) and
``decisions.py`` (a pure function of facts and settings); ``filters.py`` holds the settings. Decision 17 says why.
"""
