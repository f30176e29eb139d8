"""Read a data set of ours with Hugging Face ``datasets`` (``pip install datasets``), streamed, one shard after another.

    python examples/read_with_datasets.py sets/dataset-.../manifest.parquet

Nothing is copied: rows come from the manifest, pictures from the shards, on a local disk or in S3.
"""

import sys
from collections.abc import Iterator
from typing import Any

from datasets import Features, Image, IterableDataset, Value

from infinity import Manifest

FEATURES = Features({"image": Image(), "text": Value("string"), "source": Value("string")})


def samples(uri: str, split: str, shards: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the samples of some shards; the order is that of the data set."""
    manifest = Manifest.load(uri)
    names = manifest.column("shard").to_pylist()
    wanted = set(shards)
    for row in manifest.rows(split):
        if names[row] in wanted:
            values = {"text": manifest.captions([row])[0], "source": manifest.values("source", [row])[0]}
            yield {"image": {"bytes": manifest.read_image(row), "path": None}, **values}


def stream(uri: str, split: str = "train") -> IterableDataset:
    """Return one split as an iterable data set; workers of a data loader share its shards."""
    manifest = Manifest.load(uri)
    names = manifest.column("shard").to_pylist()
    shards = list(dict.fromkeys(names[row] for row in manifest.rows(split)))
    arguments = {"uri": uri, "split": split, "shards": shards}
    return IterableDataset.from_generator(samples, features=FEATURES, gen_kwargs=arguments)


if __name__ == "__main__":
    data = stream(sys.argv[1])
    print(f"{data.num_shards} shards")
    for sample in data.take(3):
        print(sample["image"].size, sample["text"])
