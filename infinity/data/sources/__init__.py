"""Sources of captioned pictures: folders, tables, Parquet, webdataset shards, addresses on the web, drawn scenes.

Every source is cut into slices that a worker reads alone; a row that cannot be used is quarantined with its reason.
May import ``infinity.data.images``. Start with ``opening.py``, which chooses the reader, and ``samples.py``, the row.
"""
