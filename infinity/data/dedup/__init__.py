"""Deduplication: equal pictures, near duplicates by hash and thumbnail, near duplicates among captions.

May import ``sources`` and ``images`` of ``infinity.data``. Start with ``duplicates.py``; the settings are in
``config.py``. Decision 16 says why near duplicates are compared twice.
"""
