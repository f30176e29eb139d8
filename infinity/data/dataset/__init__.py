"""The data set on disk or in S3: webdataset shards named by content, and the Parquet manifest that describes them.

May import every room of ``infinity.data`` but ``loading``. Start with ``manifest.py``; ``layout.py`` plans the shards.
"""
