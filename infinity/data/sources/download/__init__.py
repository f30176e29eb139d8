"""Download pictures from a list of addresses, with care for the servers and for the network this runs in.

Start with ``slices.py`` (a slice of the list becomes one Parquet file); ``addresses.py`` decides what may be dialled.
"""
