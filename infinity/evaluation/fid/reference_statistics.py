"""Files with mean and covariance of a reference set: ours carry a passport, published ones are told theirs.

Formats that are read: ``.npz`` with ``mu`` and ``sigma`` (pytorch-fid, clean-fid, ADM), ``.pt`` with the same two
(torch-fidelity's cache). Ours are such an ``.npz`` too, so that those tools read it, with a passport beside.
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
from infinity.config import Config
from infinity.evaluation.fid.frechet import GaussianStats, Moments, frechet_distance
from infinity.evaluation.fid.preparation import Convention, protocol
from infinity.storage.pinned import PinnedFile


class StatisticsError(ValueError):
    """A file of statistics cannot be used, or two that do not belong together were compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Passport(Config):
    """What statistics were taken of, and how.

    Args:
        convention: Of preparing pictures for Inception.
        feature: Which features, by their width: 64, 192, 768 or 2048.
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
    """Moments with their passport."""

    moments: Moments
    passport: Passport


@dataclass(frozen=True, kw_only=True, slots=True)
class StatisticsFile(Config):
    """A file of reference statistics.

    Args:
        file: Where it lies and, best, its checksum.
        convention: Of a file without a passport, which must be stated; None for a file with one.
        count: Of a file without a passport: pictures behind it, if known. FID compares only at equal numbers.
    """

    file: PinnedFile
    convention: Convention | None = None
    count: int | None = None


def write_statistics(uri: str, stats: GaussianStats | Moments, passport: Passport) -> None:
    """Write an ``.npz`` file; the same statistics give the same bytes.

    Raises:
        StatisticsError: The width is not the passport's.
        ValueError: Less than two rows.
    """
    moments = stats.moments() if isinstance(stats, GaussianStats) else stats
    if len(moments.mean) != passport.feature:
        raise StatisticsError(f"{uri}: expected {passport.feature} features, got {len(moments.mean)}")
    about = {**passport.to_json(), "count": moments.count}
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
        StatisticsError: Not such a file, broken values, no convention known, or another than the one stated.
        PinnedFileError: No download, or another checksum.
        StorageError: The file cannot be read.
    """
    where = source.file.uri
    arrays = _arrays(source.file.read(), where)
    mean, covariance = (np.asarray(arrays[name], dtype=np.float64) for name in ("mu", "sigma"))
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise StatisticsError(f"{where}: expected mu (D,) and sigma (D, D), found {mean.shape} and {covariance.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise StatisticsError(f"{where}: expected finite numbers in mu and sigma")
    passport, count = _passport(arrays, source, len(mean))
    return Statistics(moments=Moments(count, torch.from_numpy(mean), torch.from_numpy(covariance)), passport=passport)


def _passport(arrays: dict[str, Any], source: StatisticsFile, width: int) -> tuple[Passport, int | None]:
    where, stated = source.file.uri, source.convention
    if "passport" not in arrays:
        if stated is None:
            raise StatisticsError(
                f"{where}: the file does not say how its pictures were prepared; state the convention: tf1 "
                "(torch-fidelity, ADM), pytorch_fid, clean_fid or imagenet_norm"
            )
        return Passport(convention=stated, feature=width, source=where), source.count
    about = json.loads(str(arrays["passport"]))
    count = about.pop("count")
    passport = Passport.from_json(about, where=where)
    if stated is not None and stated != passport.convention:
        raise StatisticsError(f"{where}: stated as {stated}, but its passport says {passport.convention}")
    return passport, count


def _arrays(data: bytes, where: str) -> dict[str, Any]:
    """By name what a file holds; no code in it runs."""
    try:
        if zipfile.is_zipfile(io.BytesIO(data)) and b"data.pkl" not in data[:200]:
            with np.load(io.BytesIO(data), allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
        else:
            with torch.serialization.safe_globals(_numpy_types()):
                arrays = dict(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    except Exception as error:  # numpy's and torch's readers raise many types; all mean the same to the caller
        raise StatisticsError(
            f"{where}: expected an .npz or .pt file of statistics ({type(error).__name__}: {error})"
        ) from error
    if missing := {"mu", "sigma"} - set(arrays):
        raise StatisticsError(f"{where}: expected mu and sigma, missing {sorted(missing)}; found {sorted(arrays)[:8]}")
    return arrays


def _numpy_types() -> list[Any]:
    """What a pickled array is made of."""
    names = (np.float32, np.float64)
    rebuild = np.zeros(1).__reduce__()[0]
    return [rebuild, np.ndarray, np.dtype, *(type(np.dtype(name)) for name in names)]


def statistics_distance(a: Statistics, b: Statistics) -> float:
    """Fréchet distance of two sets.

    Raises:
        StatisticsError: Their passports name different conventions or features.
    """
    for what in ("protocol", "feature"):
        left, right = getattr(a.passport, what), getattr(b.passport, what)
        if left != right:
            raise StatisticsError(f"statistics of different conventions never compare ({what}): {left!r} and {right!r}")
    return frechet_distance(a.moments, b.moments)
