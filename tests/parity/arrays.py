"""Arrays and pictures that lie beside a recorded file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from infinity.evaluation.pictures.store import decode_picture


def arrays_beside(path: Path, *names: str) -> dict[str, np.ndarray[Any, Any]]:
    """The content of the .npz file in the folder of ``path`` that holds all these arrays, whatever its name.

    Raises:
        ValueError: None, or more than one.
    """
    found = []
    for candidate in sorted(path.parent.glob("*.npz")):
        with np.load(candidate, allow_pickle=False) as content:
            if set(names) <= set(content.files):
                found.append({name: content[name] for name in content.files})
    if len(found) != 1:
        raise ValueError(f"expected one .npz file with {', '.join(names)} beside {path.name}, found {len(found)}")
    return found[0]


def rgb(path: Path) -> np.ndarray[Any, Any]:
    """A picture as (H, W, 3) uint8, through the reader of the commands that score."""
    return decode_picture(path.read_bytes(), str(path), upright=False)
