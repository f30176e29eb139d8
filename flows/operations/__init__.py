"""How flows live with a server that is away, with cancels, and with processes that died.

Imports infinity and infra; no other folder of flows. Start with ``outage.py``, then ``reaper.py``.
"""
