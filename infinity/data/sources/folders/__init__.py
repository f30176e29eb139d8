"""Files of a folder or zip archive: which are pictures, captions, labels or tables, and which name means which file.

May import its neighbours in ``infinity.data.sources``. Start with ``folder_files.py``, which sorts the files.
"""
