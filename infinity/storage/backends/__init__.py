"""Where bytes lie: files on this machine, or objects in S3 and its kin. Both keep the same promises.

Imports the small modules of ``infinity.storage`` (errors, names, fences, outages); boto3 only in ``s3.py`` and
``conditions.py``. Start with ``local.py``.
"""
