"""The server of pictures: an ASGI application with OpenAI's images API, a page, and batches; it knows no cluster.

Start with ``app.py``. ``batcher.py`` joins requests into batches, ``inputs.py`` reads and limits what comes in.
May import ``generation`` and everything below it; ``infinity.jobs.serving`` runs it on Ray Serve.
"""
