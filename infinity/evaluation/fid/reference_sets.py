"""Feature statistics of a set of pictures: a folder of files, or a split of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from infinity import storage
from infinity.config import Config
from infinity.data.dataset.manifest import Manifest, Split
from infinity.data.images.fitting import fit
from infinity.evaluation.fid.frechet import GaussianStats
from infinity.evaluation.fid.inception import InceptionFeatures
from infinity.evaluation.fid.preparation import PREPARATIONS, Convention
from infinity.evaluation.fid.reference_statistics import Provenance
from infinity.evaluation.pictures.files import digest_of_files, endings, in_sight, is_picture
from infinity.evaluation.pictures.shards import count_pictures, is_shard, read_pictures
from infinity.evaluation.pictures.store import decode_picture
from infinity.ranges import Count

FEATURES = (64, 192, 768, 2048)
_ROWS_AT_ONCE = 512
"""Rows of features that are summed together: summing fewer at a time costs more than computing them."""

Network = Callable[[torch.Tensor], InceptionFeatures]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceSet(Config):
    """Which pictures are read, and how they are prepared.

    Attributes:
        uri: Folder of pictures, read in the order of their names, subfolders included; or a folder of tar shards, or
            one shard; or a manifest, or its folder.
        split: Split of a data set; "train" is never the default.
        size_px: Rows and columns that every picture is brought to first, as a model sees it: the middle, scaled by a
            Lanczos filter, rounded to 8 bits. None takes pictures as they are.
        convention: Preparation of pictures for Inception.
        feature: Width of the features: 64, 192, 768 or 2048.
    """

    uri: str
    split: Split = "validation"
    size_px: Count | None = None
    convention: Convention = "tf1"
    feature: int = 2048

    def __post_init__(self) -> None:
        if self.feature not in FEATURES:
            raise ValueError(f"ReferenceSet.feature: expected one of {FEATURES}, got {self.feature}")

    def files(self) -> Files:
        """Return the pictures that are read.

        Raises:
            ValueError: Fewer than two pictures, which have no covariance.
            StorageError: The place cannot be read.
        """
        manifest = self._manifest()
        if manifest is not None:
            rows = [int(row) for row in manifest.rows(self.split)]
            found = Files(len(rows), lambda: ((f"{manifest.uri} row {row}", manifest.read_image(row)) for row in rows))
        else:
            found = self._loose()
        if found.number < 2:
            what = f"the split {self.split!r}" if manifest is not None else f"{', '.join(sorted(endings()))} files"
            raise ValueError(f"{self.uri}: expected at least 2 pictures ({what}), found {found.number}")
        return found

    def content(self) -> str:
        """Return a digest of the pictures, or of the manifest, which names its pictures by content; empty for none.

        Raises:
            StorageError: The place cannot be read.
        """
        inside = self.uri if self.uri.endswith(".parquet") else storage.join(self._folder, "manifest.parquet")
        single = self.uri if is_shard(self.uri) else inside
        if storage.exists(single):
            return storage.sha256(single)[:16]
        listed = () if is_shard(self.uri) else in_sight(self._folder, storage.list_details(self._folder))
        start = len(self._folder.rstrip("/")) + 1
        found = [(info.uri[start:], info) for info in listed if is_picture(info.uri) or is_shard(info.uri)]
        return digest_of_files(found) if found else ""

    @property
    def _folder(self) -> str:
        return storage.inside_archive(self.uri) if storage.is_archive(self.uri) else self.uri

    def _loose(self) -> Files:
        """Return the pictures of a folder or archive, of a folder of shards, or of one shard."""
        listed = [self.uri] if is_shard(self.uri) else in_sight(self._folder, storage.list_files(self._folder))
        uris = sorted(uri for uri in listed if is_picture(uri))
        shards = sorted(uri for uri in listed if is_shard(uri))
        if uris and shards:
            raise ValueError(
                f"{self.uri}: expected either pictures or shards, found {len(uris)} and {len(shards)} of them; put "
                "them into folders of their own"
            )
        if shards:
            return Files(count_pictures(shards), lambda: read_pictures(shards))
        return Files(len(uris), lambda: ((uri, storage.read_bytes(uri)) for uri in uris))

    def _manifest(self) -> Manifest | None:
        inside = storage.join(self._folder, "manifest.parquet")
        if self.uri.endswith(".parquet"):
            return Manifest.load(self.uri)
        return Manifest.load(inside) if storage.exists(inside) else None


@dataclass(frozen=True, slots=True)
class Files:
    """Number of pictures, and a function that reads them one by one with their names."""

    number: int
    read: Callable[[], Iterator[tuple[str, bytes]]]


@torch.inference_mode()
def measure(
    reference: ReferenceSet,
    network: Network,
    *,
    device: str = "cpu",
    batch_size: int = 32,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[GaussianStats, Provenance]:
    """Return sums of the features of all pictures, and the provenance that a file of statistics carries.

    Args:
        network: Network from prepared pictures to features.
        batch_size: Pictures per pass; changes results by rounding only.
        progress: Called with the share that is done.

    Raises:
        ValueError: Fewer than two pictures.
        PictureError: A file is not a readable picture.
        StorageError: A file cannot be read.
    """
    reading = Reading(reference, network, device=device, batch_size=batch_size, progress=progress)
    stats, rows = GaussianStats.empty(reference.feature), list[torch.Tensor]()
    for found in reading:
        rows.append(getattr(found, f"features_{reference.feature}").float().cpu())
        if sum(map(len, rows)) >= _ROWS_AT_ONCE or reading.done == reading.files.number:
            stats, rows = stats + GaussianStats.of(torch.cat(rows)), []
    return stats, reading.provenance()


class Reading:
    """Features of all pictures of a set, batch by batch, and the provenance of what was read.

    Args:
        network: Network from prepared pictures to features.
        batch_size: Pictures per pass.
        progress: Called with the share that is done.

    Raises:
        ValueError: Fewer than two pictures.
        StorageError: The place cannot be read.
    """

    def __init__(
        self,
        reference: ReferenceSet,
        network: Network,
        *,
        device: str = "cpu",
        batch_size: int = 32,
        progress: Callable[[float], None] = lambda share: None,
    ) -> None:
        self.files, self.done = reference.files(), 0
        self._reference, self._network, self._device = reference, network, device
        self._batch_size, self._progress, self._content = batch_size, progress, hashlib.sha256()

    def __iter__(self) -> Iterator[InceptionFeatures]:
        """Yield the features of one batch after the other.

        Raises:
            PictureError: A file is not a readable picture.
            StorageError: A file cannot be read.
        """
        reading, about = self.files.read(), self._reference
        while batch := tuple(islice(reading, self._batch_size)):
            prepared = []
            for name, data in batch:
                self._content.update(hashlib.sha256(data).digest())
                picture = torch.from_numpy(_picture(name, data, about.size_px)[None]).to(self._device)
                prepared.append(PREPARATIONS[about.convention](picture))
            self.done += len(batch)
            yield self._network(torch.cat(prepared))
            self._progress(self.done / self.files.number)

    def provenance(self) -> Provenance:
        """Return the provenance of these features, once all pictures are read."""
        side = self._reference.size_px
        fitted = "as they are" if side is None else f"with the middle scaled to {side} x {side} px (Lanczos, 8 bits)"
        where = storage.name(self._reference.uri.rstrip("/"))
        source = f"{where}: {self.files.number} pictures {fitted}, content {self._content.hexdigest()[:16]}"
        return Provenance(convention=self._reference.convention, feature=self._reference.feature, source=source)


def _picture(name: str, data: bytes, size_px: int | None) -> UInt8[np.ndarray, "H W 3"]:
    picture = decode_picture(data, name, upright=False, remedy="take it out or repair it")
    # A copy: a picture's own memory may be read-only, which torch warns of.
    return picture.copy() if size_px is None else fit(Image.fromarray(picture), (size_px, size_px)).copy()
