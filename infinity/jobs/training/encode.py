"""Job: precompute latents and text features of a data set, so that trainings need not run the frozen models."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from infinity import storage
from infinity.checkpoint import load_checkpoint
from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.captions import CaptionConfig, CaptionDraw
from infinity.jobs.cluster.actors import actors, each
from infinity.jobs.cluster.connection import connect
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.ownership import Tenure, once
from infinity.jobs.progress import Progress, ProgressSink, silent
from infinity.jobs.spec import JobReport, JobSpec, begin, commit
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.scales import Resolution
from infinity.storage.fences import fenced
from infinity.storage.leases.lease import LeaseFence
from infinity.text import TextConfig, build_text_encoder
from infinity.tokenizer.saved import KIND as TOKENIZER_KIND
from infinity.tokenizer.saved import load_tokenizer
from infinity.training.loaders.encoded import EncodedIndex, EncodedPart, LatentKind
from infinity.training.loaders.encoding import CHUNK, FrozenModels, PartRange, encode_part, part_ranges

logger = logging.getLogger(__name__)

PARTS_FOLDER, INDEX_FILE = "parts", "index.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeSpec(JobSpec):
    """Spec of a store.

    Attributes:
        manifest: URI of the data set's manifest; its training split is encoded, with a centre crop.
        resolution: Grids of every aspect ratio.
        tokenizer: URI of the tokenizer's checkpoint; None for text features alone.
        latents: Kind of latents: "features" for a training with self-correction, which draws other wrong bits at every
            visit; "bits", 20 to 30 times smaller at the published sizes, for one without.
        text: Text encoder; None for latents alone.
        captions: Caption settings of the training; every caption that they can draw is encoded.
        pictures_per_part: Pictures per file, and the most that an interrupted job loses per worker.
        workers: Number of actors and their devices.
    """

    kind: ClassVar[str] = "encoded"

    manifest: str
    resolution: Resolution
    tokenizer: str | None = None
    latents: LatentKind = "features"
    text: TextConfig | None = None
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    pictures_per_part: int = 16 * CHUNK
    workers: WorkersConfig = field(default_factory=WorkersConfig)

    def __post_init__(self) -> None:
        if self.tokenizer is None and self.text is None:
            raise ValueError("EncodeSpec: expected a tokenizer, a text encoder or both, got neither")
        if self.pictures_per_part < CHUNK or self.pictures_per_part % CHUNK:
            raise ValueError(
                f"EncodeSpec.pictures_per_part: expected a multiple of {CHUNK}, got {self.pictures_per_part}"
            )

    @property
    def index(self) -> str:
        """URI of the index, known before the job runs; the training's field ``encoded`` takes it."""
        return storage.join(self.folder, INDEX_FILE)


def store_for(spec: TrainTransformerSpec) -> EncodeSpec:
    """Return the spec of the store with all that the frozen models of a training would compute.

    Trainings with the same inputs share one store. It has no latents where pictures are augmented at every visit.
    """
    is_still = spec.augment.changes_nothing
    return EncodeSpec(
        output=spec.output,
        manifest=spec.manifest,
        resolution=spec.resolution,
        tokenizer=spec.tokenizer if is_still else None,
        latents="features" if spec.self_correction > 0 or not is_still else "bits",
        text=spec.text,
        captions=spec.captions,
        workers=spec.workers,
    )


def from_store(spec: TrainTransformerSpec) -> TrainTransformerSpec:
    """Return the spec of the same training, which reads from the store of ``store_for``; its numbers stay the same."""
    return spec.replace(encoded=store_for(spec).index)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeReport(JobReport):
    """Report of a store.

    Attributes:
        index: URI of the index; the training's field ``encoded`` takes it.
        num_pictures: Number of pictures with latents or captions in the store.
        num_bytes: Size of all files.
        seconds: Duration of the job.
    """

    index: str
    num_pictures: int
    num_bytes: int
    seconds: float


def run(spec: EncodeSpec, *, progress: ProgressSink = silent) -> EncodeReport:
    """Encode a data set. A finished job is not run again; an interrupted one resumes with the missing parts.

    Raises:
        ManifestError: A shard does not hold what the manifest says.
        StorageError: A file cannot be read or written.
        WorkersError: Workers died more often than allowed, or the cluster has no room for a single one.
    """
    return once(spec, EncodeReport, lambda tenure: _run(spec, tenure), progress)


def _run(spec: EncodeSpec, tenure: Tenure) -> EncodeReport:
    started = time.monotonic()
    folder = begin(spec)
    manifest = Manifest.load(spec.manifest)
    wanted = part_ranges(manifest, spec.pictures_per_part)
    found = {part_range: part for part_range in wanted if (part := _stored(folder, part_range)) is not None}
    missing = [part_range for part_range in wanted if part_range not in found]
    if missing:
        with connect():
            for part_range, part in _encode(spec, missing, tenure.fence):
                found[part_range] = part
                tenure.progress(Progress(len(found) / len(wanted), f"encoded {len(found)} of {len(wanted)} parts"))
    index = EncodedIndex(
        manifest=manifest.digest,
        resolution=spec.resolution,
        tokenizer=None if spec.tokenizer is None else load_checkpoint(spec.tokenizer, kind=TOKENIZER_KIND).digest,
        latents=spec.latents,
        text_encoder=spec.text,
        captions=spec.captions,
        parts=tuple(found[part_range] for part_range in wanted),
    )
    storage.write_text(spec.index, index.dump())
    files = [info for part in index.parts for info in (part.latents, part.text) if info is not None]
    report = EncodeReport(
        index=spec.index,
        num_pictures=sum(part_range.stop - part_range.start for part_range in wanted),
        num_bytes=sum(info.num_bytes for info in files),
        seconds=round(time.monotonic() - started, 2),
    )
    return commit(spec, report)


def _mark(folder: str, part_range: PartRange) -> str:
    return storage.join(folder, PARTS_FOLDER, f"{part_range.aspect_ratio:.3f}-{part_range.start:09d}.json")


def _stored(folder: str, part_range: PartRange) -> EncodedPart | None:
    """Return a part that was finished before, if its files are there."""
    uri = _mark(folder, part_range)
    if not storage.exists(uri):
        return None
    part = EncodedPart.parse(storage.read_text(uri), where=uri)
    infos = [info for info in (part.latents, part.text) if info is not None]
    return part if all(storage.exists(storage.join(folder, info.path)) for info in infos) else None


def _encode(
    spec: EncodeSpec, missing: Sequence[PartRange], fence: LeaseFence
) -> Iterator[tuple[PartRange, EncodedPart]]:
    """Yield finished parts in any order, from actors that load the models once."""
    with actors(_EncodingActor, spec.workers, len(missing), spec, fence) as team:
        for index, part in each(team, "encode", [(part_range,) for part_range in missing]):
            yield missing[index], part


class _EncodingActor:
    """Actor that holds the frozen models, and encodes part after part."""

    def __init__(self, device: str, threads: int, spec: EncodeSpec, fence: LeaseFence) -> None:
        torch.set_num_threads(threads)
        self._fence = fence
        self._spec, self._manifest = spec, Manifest.load(spec.manifest)
        encoder = None if spec.text is None else build_text_encoder(spec.text, device)
        self._frozen = FrozenModels(
            tokenizer=None if spec.tokenizer is None else load_tokenizer(spec.tokenizer).to(device),
            kind=spec.latents,
            encoder=encoder,
            captions=None
            if encoder is None
            else CaptionDraw(self._manifest, spec.captions, 0, encoder.num_tokens, encoder.max_tokens),
        )

    def encode(self, part_range: PartRange) -> EncodedPart:
        """Write the files of a part, then the record that marks it as finished."""
        spec = self._spec
        with fenced(self._fence):
            part = encode_part(self._manifest, part_range, spec.resolution, self._frozen, spec.folder)
            storage.write_text(_mark(spec.folder, part_range), part.dump())
        return part
