"""Jobs: a frozen spec goes in, a frozen report comes out, on a Ray cluster. The only package that imports Ray.

Rooms: ``cluster`` (connection, actors, fan-out), then ``dataset``, ``training`` and ``evaluation`` (one job per
stage), then ``estimate`` (memory and time before a training runs). Start with ``spec.py`` and ``registry.py``.
"""
