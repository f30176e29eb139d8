"""Store what frozen tokenizer and text encoder make of a data set, so that no training has to run them again."""

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
from infinity.jobs.cluster.connection import connect, is_in_process
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.ownership import Tenure, once
from infinity.jobs.progress import Progress, ProgressSink, silent
from infinity.jobs.spec import JobReport, JobSpec, begin, commit
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.jobs.watching import end_actor
from infinity.scales import Resolution
from infinity.storage.fences import fenced
from infinity.storage.lease import LeaseFence
from infinity.text import TextConfig, build_text_encoder
from infinity.tokenizer.saved import KIND as TOKENIZER_KIND
from infinity.tokenizer.saved import load_tokenizer
from infinity.training.loaders.encoded import EncodedIndex, EncodedPart, LatentKind
from infinity.training.loaders.encoding import CHUNK, Frozen, Stretch, encode_part, stretches

logger = logging.getLogger(__name__)

PARTS_FOLDER, INDEX_FILE = "parts", "index.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeSpec(JobSpec):
    """What to store.

    Attributes:
        manifest: URI of the data set's manifest; its training split is encoded, with a centre crop.
        resolution: Grids of every aspect ratio.
        tokenizer: URI of the tokenizer's checkpoint; None for text features alone.
        latents: Features for a training with self-correction, which draws other wrong bits at every visit; bits, 20 to
            30 times smaller at the published sizes, for one without.
        text: Which text encoder; None for latents alone.
        captions: The training's settings: every caption that they can draw is encoded.
        pictures_per_part: Pictures of one file, and what an interrupted job loses at most per worker.
        workers: Actors that hold the models.
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
        JobSpec.__post_init__(self)  # super() does not work in a dataclass with slots
        if self.tokenizer is None and self.text is None:
            raise ValueError("EncodeSpec: expected a tokenizer, a text encoder or both, got neither")
        if self.pictures_per_part < CHUNK or self.pictures_per_part % CHUNK:
            raise ValueError(
                f"EncodeSpec.pictures_per_part: expected a multiple of {CHUNK}, got {self.pictures_per_part}"
            )

    @property
    def index(self) -> str:
        """URI of the index, known before the job has run: what a training names in ``encoded``."""
        return storage.join(self.folder, INDEX_FILE)


def store_for(spec: TrainTransformerSpec) -> EncodeSpec:
    """The store from which a training reads all that its frozen models would compute.

    Trainings that draw alike share one. Latents are left out where pictures look different at every visit.
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
    """The training that reads from its store, which ``store_for`` describes; its numbers stay the same."""
    return spec.replace(encoded=store_for(spec).index)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeReport(JobReport):
    """What lies in the store.

    Attributes:
        index: URI of the index, which a training names in ``encoded``.
        num_pictures: Pictures whose latents or captions are there.
        num_bytes: Of all files.
        seconds: Time the job took.
    """

    index: str
    num_pictures: int
    num_bytes: int
    seconds: float


def run(spec: EncodeSpec, *, progress: ProgressSink = silent) -> EncodeReport:
    """Encode; a finished spec is not encoded again, an interrupted one goes on where parts are missing.

    Raises:
        ManifestError: A shard does not hold what the manifest says.
        StorageError: A file cannot be read or written.
    """
    return once(spec, EncodeReport, lambda tenure: _run(spec, tenure), progress)


def _run(spec: EncodeSpec, tenure: Tenure) -> EncodeReport:
    started = time.monotonic()
    folder = begin(spec)
    manifest = Manifest.load(spec.manifest)
    wanted = stretches(manifest, spec.pictures_per_part)
    found = {stretch: part for stretch in wanted if (part := _stored(folder, stretch)) is not None}
    missing = [stretch for stretch in wanted if stretch not in found]
    if missing:
        with connect():
            for stretch, part in _encode(spec, missing, tenure.fence):
                found[stretch] = part
                tenure.progress(Progress(len(found) / len(wanted), f"encoded {len(found)} of {len(wanted)} parts"))
    index = EncodedIndex(
        manifest=manifest.digest,
        resolution=spec.resolution,
        tokenizer=None if spec.tokenizer is None else load_checkpoint(spec.tokenizer, kind=TOKENIZER_KIND).digest,
        latents=spec.latents,
        text_encoder=spec.text,
        captions=spec.captions,
        parts=tuple(found[stretch] for stretch in wanted),
    )
    storage.write_text(spec.index, index.dump())
    files = [info for part in index.parts for info in (part.latents, part.text) if info is not None]
    report = EncodeReport(
        index=spec.index,
        num_pictures=sum(stretch.stop - stretch.start for stretch in wanted),
        num_bytes=sum(info.num_bytes for info in files),
        seconds=round(time.monotonic() - started, 2),
    )
    return commit(spec, report)


def _mark(folder: str, stretch: Stretch) -> str:
    return storage.join(folder, PARTS_FOLDER, f"{stretch.aspect_ratio:.3f}-{stretch.start:09d}.json")


def _stored(folder: str, stretch: Stretch) -> EncodedPart | None:
    """A part that was finished before, whose files are there."""
    uri = _mark(folder, stretch)
    if not storage.exists(uri):
        return None
    part = EncodedPart.parse(storage.read_text(uri), where=uri)
    infos = [info for info in (part.latents, part.text) if info is not None]
    return part if all(storage.exists(storage.join(folder, info.path)) for info in infos) else None


def _encode(spec: EncodeSpec, missing: Sequence[Stretch], fence: LeaseFence) -> Iterator[tuple[Stretch, EncodedPart]]:
    """Parts as they get ready, from actors that load the models once."""
    if is_in_process():
        worker = _EncodingActor(spec, fence)
        for stretch in missing:
            yield stretch, worker.encode(stretch)
        return
    import ray
    from ray.exceptions import RayTaskError
    from ray.util import ActorPool

    workers = spec.workers
    actor = ray.remote(_EncodingActor).options(
        num_cpus=workers.threads,
        num_gpus=int(workers.use_gpu),
        max_restarts=workers.max_failures,
        max_task_retries=workers.max_failures,
    )
    actors = [actor.remote(spec, fence) for _ in range(min(workers.num_workers, len(missing)))]
    try:
        pool = ActorPool(actors)
        yield from pool.map_unordered(lambda each, stretch: each.encode_named.remote(stretch), missing)
    except RayTaskError as error:
        raise error.cause from None  # a sentence for people; Ray's text is a trace of internals
    finally:
        for each in actors:
            end_actor(each)


class _EncodingActor:
    """Holds the models, and encodes one part after the other."""

    def __init__(self, spec: EncodeSpec, fence: LeaseFence) -> None:
        self._fence = fence
        torch.set_num_threads(spec.workers.threads)
        device = "cuda" if spec.workers.use_gpu else "cpu"
        self._spec, self._manifest = spec, Manifest.load(spec.manifest)
        encoder = None if spec.text is None else build_text_encoder(spec.text, device)
        self._frozen = Frozen(
            tokenizer=None if spec.tokenizer is None else load_tokenizer(spec.tokenizer).to(device),
            kind=spec.latents,
            encoder=encoder,
            captions=None
            if encoder is None
            else CaptionDraw(self._manifest, spec.captions, 0, encoder.num_tokens, encoder.max_tokens),
        )

    def encode(self, stretch: Stretch) -> EncodedPart:
        """Write a part's files, then its mark."""
        spec = self._spec
        with fenced(self._fence):
            part = encode_part(self._manifest, stretch, spec.resolution, self._frozen, spec.folder)
            storage.write_text(_mark(spec.folder, stretch), part.dump())
        return part

    def encode_named(self, stretch: Stretch) -> tuple[Stretch, EncodedPart]:
        """The same, with what it is of."""
        return stretch, self.encode(stretch)
