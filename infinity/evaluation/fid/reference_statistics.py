"""Files with mean and covariance of a reference set: ours carry their provenance, published ones need it stated.

Formats that are read: ``.npz`` with ``mu`` and ``sigma`` (pytorch-fid, clean-fid, ADM), ``.pt`` with the same two
(torch-fidelity's cache). Ours are ``.npz`` files with the same two arrays, so that those tools read them, and one more
array with the provenance as JSON.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from infinity import storage
from infinity.config import Config, parse_json
from infinity.evaluation.fid.frechet import GaussianStats, Moments, frechet_distance
from infinity.evaluation.fid.preparation import Convention, protocol
from infinity.storage.pinned import PinnedFile


class StatisticsError(ValueError):
    """A file of statistics cannot be used, or two sets of statistics do not compare."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance(Config):
    """Which pictures statistics were computed from, and how.

    Args:
        convention: Preparation of pictures for Inception.
        feature: Width of the features: 64, 192, 768 or 2048.
        source: Words or a digest that name the pictures.
        protocol: The convention in words, with its version.
    """

    convention: Convention
    feature: int = 2048
    source: str = ""
    protocol: str = ""

    def __post_init__(self) -> None:
        if not self.protocol:
            object.__setattr__(self, "protocol", protocol(self.convention))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Statistics:
    """Mean and covariance with their provenance."""

    moments: Moments
    provenance: Provenance


@dataclass(frozen=True, kw_only=True, slots=True)
class StatisticsFile(Config):
    """A file of reference statistics.

    Args:
        file: Where it lies and, best, its checksum.
        convention: Convention of a file that does not carry its provenance; None for a file that does.
        count: Number of pictures behind a file that does not carry its provenance, if known. FIDs
            compare only at equal numbers.
    """

    file: PinnedFile
    convention: Convention | None = None
    count: int | None = None


def write_statistics(uri: str, stats: GaussianStats | Moments, provenance: Provenance) -> None:
    """Write an ``.npz`` file; the same statistics give the same bytes.

    Raises:
        StatisticsError: The number of features is not that of the provenance.
        ValueError: Fewer than two rows.
    """
    moments = stats.moments() if isinstance(stats, GaussianStats) else stats
    if len(moments.mean) != provenance.feature:
        raise StatisticsError(f"{uri}: expected {provenance.feature} features, got {len(moments.mean)}")
    about = {**provenance.to_json(), "count": moments.count}
    content = io.BytesIO()
    np.savez(
        content,
        mu=moments.mean.numpy(),
        sigma=moments.covariance.numpy(),
        passport=np.array(json.dumps(about, sort_keys=True)),
    )
    storage.write_bytes(uri, content.getvalue())


def read_statistics(source: StatisticsFile) -> Statistics:
    """Read any of the formats.

    Raises:
        StatisticsError: The file is of another format, holds values that are not finite, states no convention, or
            another convention than ``source``.
        PinnedFileError: The download failed, or the checksum differs.
        StorageError: The file cannot be read.
    """
    where = source.file.uri
    arrays = _arrays(source.file.read(), where)
    mean, covariance = (_numbers(arrays[name], name, where) for name in ("mu", "sigma"))
    if mean.ndim != 1 or len(mean) == 0 or covariance.shape != (len(mean), len(mean)):
        raise StatisticsError(f"{where}: expected mu (D,) and sigma (D, D), found {mean.shape} and {covariance.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise StatisticsError(f"{where}: expected finite numbers in mu and sigma")
    largest = np.abs(covariance).max()
    if (np.diagonal(covariance) < 0).any() or np.abs(covariance - covariance.T).max() > 1e-4 * largest:
        raise StatisticsError(f"{where}: expected a covariance in sigma: symmetric, with no variance below zero")
    provenance, count = _provenance(arrays, source, len(mean))
    return Statistics(
        moments=Moments(count, torch.from_numpy(mean), torch.from_numpy(covariance)), provenance=provenance
    )


def _numbers(array: Any, name: str, where: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return an array of real numbers in double precision."""
    if isinstance(array, torch.Tensor) and array.layout == torch.strided and not array.is_meta:
        array = array.detach().double().numpy() if array.is_floating_point() else array.detach().numpy()
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        found = str(array.dtype) if isinstance(array, np.ndarray | torch.Tensor) else type(array).__name__
        raise StatisticsError(f"{where}: expected real numbers in {name}, found {found}")
    return array.astype(np.float64)


def _provenance(arrays: dict[str, Any], source: StatisticsFile, width: int) -> tuple[Provenance, int | None]:
    where, stated = source.file.uri, source.convention
    if "passport" not in arrays:
        if stated is None:
            raise StatisticsError(
                f"{where}: the file does not say how its pictures were prepared; state the convention (--convention): "
                "tf1 (torch-fidelity, ADM), pytorch_fid, clean_fid or imagenet_norm"
            )
        return Provenance(convention=stated, feature=width, source=where), source.count
    about = parse_json(str(arrays["passport"]), where=f"{where}: passport")
    count = about.pop("count", None) if isinstance(about, dict) else None
    provenance = Provenance.from_json(about, where=f"{where}: passport")
    if count is not None and (type(count) is not int or count < 2):
        raise StatisticsError(
            f"{where}: passport.count: expected a number of pictures, at least 2, found {count!r:.80}"
        )
    if provenance.feature != width:
        raise StatisticsError(f"{where}: expected {provenance.feature} features, as its passport says, found {width}")
    if stated is not None and stated != provenance.convention:
        raise StatisticsError(
            f"{where}: stated as {stated}, but the file says {provenance.convention}; different conventions never "
            "compare"
        )
    return provenance, count


def _arrays(data: bytes, where: str) -> dict[str, Any]:
    """Return the arrays of a file by name; no code in the file is run."""
    try:
        if zipfile.is_zipfile(io.BytesIO(data)) and b"data.pkl" not in data[:200]:
            with np.load(io.BytesIO(data), allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files if name in _ARRAYS}
                found = list(content.files)
        else:
            with torch.serialization.safe_globals(_numpy_types()):
                arrays = dict(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
                found = sorted(map(str, arrays))
    except Exception as error:  # numpy's and torch's readers raise many types; all of them mean an unusable file
        raise StatisticsError(
            f"{where}: expected an .npz or .pt file of statistics ({type(error).__name__}: {error!s:.300})"
        ) from error
    if missing := {"mu", "sigma"} - set(arrays):
        raise StatisticsError(
            f"{where}: expected mu and sigma, missing {sorted(missing)}; found {found[:8]}. Pictures themselves are "
            "read from a folder or from tar shards"
        )
    return arrays


_ARRAYS = ("mu", "sigma", "passport")


def _numpy_types() -> list[Any]:
    """Return the types that a pickled array is made of, which torch's safe unpickler must accept."""
    names = (np.float32, np.float64)
    rebuild = np.zeros(1).__reduce__()[0]
    return [rebuild, np.ndarray, np.dtype, *(type(np.dtype(name)) for name in names)]


def statistics_distance(a: Statistics, b: Statistics) -> float:
    """Return the Fréchet distance of two sets.

    Raises:
        StatisticsError: The sets have different conventions or features.
    """
    for what in ("protocol", "feature"):
        left, right = getattr(a.provenance, what), getattr(b.provenance, what)
        if left != right:
            raise StatisticsError(f"statistics of different conventions never compare ({what}): {left!r} and {right!r}")
    return frechet_distance(a.moments, b.moments)
