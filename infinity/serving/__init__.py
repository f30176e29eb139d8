"""The server of pictures: an ASGI application with OpenAI's images API, a page, and batches; it knows no cluster.

Start with ``app.py``. ``bodies.py`` and ``forms.py`` read what comes in, ``inputs.py`` checks it, ``refusal.py`` says
what is wrong with it, and ``batcher.py`` joins requests into batches.
May import ``generation`` and everything below it; ``infinity.jobs.serving`` runs it on Ray Serve.
"""
