"""Work on a Ray cluster: the connection, actors that hold something heavy, one function over many arguments.

May import ``spec`` and ``progress`` of ``infinity.jobs``. Start with ``connection.py``.
"""
