"""Our data sets for other trainers: a version of a data set as a webdataset pipeline."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from typing import Any

os.environ["WDS_SECURE"] = "1"  # before its import: members of a shard that are pickles are never run
import webdataset
from webdataset.tariterators import group_by_keys, tar_file_expander

from infinity import storage
from infinity.data.dataset.manifest import Manifest, Split
from infinity.data.images.decoding import MAX_PIXELS, decode

EXTENSIONS = "jpg;png;webp"
"""Endings of the files of stored pictures."""


def as_webdataset(manifest: Manifest, split: Split = "train", *, shuffle: int = 0, seed: int = 0) -> Any:
    """Return a ``webdataset.DataPipeline`` of the pictures (PIL, RGB) and captions of a split, one epoch per iteration.

    It is a ``torch.utils.data.IterableDataset``: processes and data-loader workers share out the shards. The order is a
    function of seed and epoch. A further stage goes behind it with ``append``.

    Example::

        from infinity import Manifest, as_webdataset

        data = as_webdataset(Manifest.load("runs/demo/dataset-.../manifest.parquet"), shuffle=1000)
        loader = torch.utils.data.DataLoader(data, batch_size=None)

    Args:
        manifest: Version of a data set; its shards lie on this machine or in S3.
        split: Split of the data set.
        shuffle: Size of the shuffle buffer in samples; 0 keeps the order of the shards.
        seed: Seed of the order.

    Raises:
        ManifestError: A shard would lie outside of the data set.
        ValueError: The split is empty.
        StorageError: While iterating: a shard cannot be read.
    """
    shards = sorted({manifest.place(int(row))[0] for row in manifest.rows(split)})
    if not shards:
        raise ValueError(f"{manifest.uri}: expected pictures in the split {split!r}, found none")
    stages = [
        webdataset.SimpleShardList(shards, seed=seed if shuffle else None),
        webdataset.split_by_node,
        webdataset.split_by_worker,
        _opened,
        tar_file_expander,
        group_by_keys,
        *([webdataset.detshuffle(shuffle, initial=shuffle, seed=seed)] if shuffle else []),
        webdataset.to_tuple(EXTENSIONS, "txt"),
        webdataset.map_tuple(_picture, bytes.decode),
    ]
    return webdataset.DataPipeline(*stages)


def _opened(shards: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Read shards through our storage, which knows S3; webdataset would start a program for it."""
    for shard in shards:
        yield {**shard, "stream": io.BytesIO(storage.read_bytes(shard["url"]))}


def _picture(data: bytes) -> Any:
    return decode(data, MAX_PIXELS).image
