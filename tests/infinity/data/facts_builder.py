"""Facts of pictures that were never drawn, for tests of what is decided on them."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from infinity.data.facts import FACTS


def facts_of(rows: Sequence[dict[str, Any]], **scores: Sequence[float | None]) -> pa.Table:
    """A table of facts: each row a good picture unlike all others, except for what is given."""
    filled = []
    for index, row in enumerate(rows):
        seed = hashlib.sha256(str(index).encode()).digest()
        random = np.random.default_rng(index)
        good = {
            "row": index,
            "name": f"{index}.png",
            "caption": f"a caption {index}",
            "num_bytes": 1000,
            "width_px": 64,
            "height_px": 64,
            "extension": "png",
            "keep_bytes": True,
            "content": seed,
            "pixels": seed,
            "phash": int(random.integers(2**63)),
            "thumbnail": random.integers(0, 256, (32, 32, 3), dtype=np.uint8).tobytes(),
            "contrast": 50.0,
            "sharpness": 100.0,
        }
        filled.append(good | row)
    table = pa.Table.from_pylist(filled, schema=FACTS)
    for name, values in scores.items():
        table = table.append_column(name, pa.array(values, pa.float32()))
    return table
