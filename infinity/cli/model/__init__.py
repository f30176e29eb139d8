"""Commands about a model: draw pictures, look inside a checkpoint, exchange weights with the published code.

Imports the console and, inside the commands, the library. Start with ``pictures.py``.
"""
