"""What pretrained networks say of every readable picture: asked once, kept beside the facts.

Where answers lie follows from weights and the settings that matter (``curation.answers``). Thresholds play no part, so
a data set with others asks no network; neither does a job that was killed, for the slices it had finished.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from infinity import storage
from infinity.config import Config, digest_of
from infinity.data.curation import facts as facts_files
from infinity.data.curation.answers import CAPTION, Answers, absent, keep, place_of
from infinity.data.curation.facts import SMALL_FACTS
from infinity.data.images.decoding import UnreadableError, decode
from infinity.data.sources.checking import fetch
from infinity.data.sources.opening import Slice
from infinity.data.sources.samples import CaptionChoice, SourceError
from infinity.generation.watermark.own_output import OwnOutputConfig
from infinity.jobs.cluster.actors import actors, each
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.progress import Progress, ProgressSink, section, silent
from infinity.perception.language.captioner import Captioner, CaptionerConfig
from infinity.perception.scorers import ScorerConfig, load_scorers, score_key

SCORES_FOLDER = "scores"
CAPTIONS_FOLDER = "captions"

_PICTURES_AT_ONCE = 64
_PIXELS_AT_ONCE = 32_000_000
"""Pixels that a worker holds decoded: 64 pictures of 0.5 megapixels, or one of any size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorersConfig(Config):
    """Settings of the networks that score and caption pictures (docs/decisions/0019).

    Attributes:
        scorers: Networks that give scores; at most one per score.
        captioner: Writes long captions; the source's stay as the short ones. None for no new captions.
        captions: Choice between the two captions; the chosen one is compared with the picture.
        workers: Processes that run the networks; they change no result.
        max_pixels: Limit of the first pass: larger pictures are unreadable.
    """

    scorers: tuple[ScorerConfig | OwnOutputConfig, ...] = ()
    captioner: CaptionerConfig | None = None
    captions: CaptionChoice = "long"
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    max_pixels: int = 64_000_000

    def __post_init__(self) -> None:
        names = [scorer.score for scorer in self.scorers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"scorers: expected at most one for each score, got several for {', '.join(twice)}")


def ask(
    pieces: Sequence[tuple[Slice, str]], config: ScorersConfig, root: str, progress: ProgressSink = silent
) -> Answers:
    """See to it that the networks have answered for every slice, and return where the answers lie.

    Args:
        pieces: Slices of all sources, each with the URI of its facts.
        root: URI of the folder that all versions of the data set share.
        progress: Callback after every slice.

    Raises:
        ValueError: Weights that are missing or others than expected, an unknown label, a missing library.
        SourceError: A picture is not what it was in the first pass.
        StorageError: Pictures or weights cannot be read, or the answers not be written.
        WorkersError: No room on the cluster, or workers that die.
    """
    answers = Answers(choice=config.captions)
    behind = 0.0
    if config.captioner is not None:
        behind = 0.5 if config.scorers else 1.0
        folder = storage.join(root, CAPTIONS_FOLDER, config.captioner.weights_digest())
        answers = replace(answers, folders=((CAPTION, folder),))
        _ask(pieces, answers, {CAPTION: config.captioner}, config, section(progress, 0.0, behind))
    if config.scorers:
        told = config.captioner.weights_digest() if config.captioner else ""
        scored = tuple((scorer.score, _folder_of(scorer, told, config, root)) for scorer in config.scorers)
        answers = replace(answers, folders=(*answers.folders, *scored))
        wanted = {scorer.score: scorer for scorer in config.scorers}
        _ask(pieces, answers, wanted, config, section(progress, behind, 1.0))
    return answers


def _folder_of(scorer: ScorerConfig | OwnOutputConfig, captioner: str, config: ScorersConfig, root: str) -> str:
    key = score_key(scorer)  # type: ignore[arg-type]  # a scorer that is loaded by itself, too
    if scorer.kind == "clip_similarity":  # the only one that reads captions
        key = digest_of([key, captioner, config.captions])
    return storage.join(root, SCORES_FOLDER, f"{scorer.score}-{key}")


def _ask(
    pieces: Sequence[tuple[Slice, str]],
    answers: Answers,
    judges: Mapping[str, Config],
    config: ScorersConfig,
    progress: ProgressSink,
) -> None:
    """Ask networks about the slices whose answers are missing; the pictures of a slice are opened once for all."""
    files = [uri for _, uri in pieces]
    missing = {name: absent(folder, files) for name, folder in answers.folders if name in judges}
    # Scorers look at the captions that a captioner has written before.
    before, folders = Answers() if CAPTION in judges else answers.only(CAPTION), dict(answers.folders)
    calls: list[tuple[Any, ...]] = []
    for place, (piece, facts) in enumerate(pieces):
        if uris := {name: place_of(folders[name], facts) for name in judges if missing[name][place]}:
            calls.append((dict(judges), piece, facts, before, uris, config.max_pixels))
    if not calls:
        return
    with actors(_ScoringActor, config.workers, len(calls)) as team:
        for done, _ in enumerate(each(team, "judge", calls), start=1):
            progress(Progress(done / len(calls), f"{', '.join(judges)}: {done:,} of {len(calls):,} slices"))


class _ScoringActor:
    """An actor: holds the networks, looks at one slice after the other."""

    def __init__(self, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._device, self._threads = device, threads
        self._loaded: dict[str, Any] = {}

    def judge(
        self,
        judges: dict[str, Config],
        piece: Slice,
        facts: str,
        before: Answers,
        uris: dict[str, str],
        max_pixels: int,
    ) -> None:
        """Write the answers of all judges that have a URI, for the readable pictures of a slice.

        Args:
            judges: Configuration of each network.
            facts: URI of its facts.
            before: Captions to read instead of the source's.
            max_pixels: Larger pictures are unreadable.
        """
        table = before.attach(facts_files.from_bytes(storage.read_bytes(facts), facts, SMALL_FACTS), facts)
        readable = table.filter(pc.is_null(table["problem"])).select(["row", "name", "caption", "content"])
        networks = self._networks({name: judges[name] for name in uris})
        answers: dict[str, list[Any]] = {name: [] for name in uris}
        for pictures, captions in _batches(piece, readable, max_pixels):
            for name, network in networks.items():
                answers[name] += list(network(pictures, captions))
        for name, values in answers.items():
            keep(uris[name], readable["row"], name, values)

    def _networks(self, judges: dict[str, Config]) -> dict[str, Any]:
        absent = {name: config for name, config in judges.items() if name not in self._loaded}
        scorers = {name: config for name, config in absent.items() if not isinstance(config, CaptionerConfig)}
        loaded = load_scorers(list(scorers.values()), self._device, self._threads)  # type: ignore[arg-type]
        self._loaded |= dict(zip(scorers, loaded, strict=True))
        for name, config in absent.items():
            if isinstance(config, CaptionerConfig):
                captioner = Captioner(config, self._device)
                self._loaded[name] = lambda pictures, _, captioner=captioner: captioner(pictures)
        return {name: self._loaded[name] for name in judges}


def _batches(piece: Slice, readable: pa.Table, max_pixels: int) -> Iterator[tuple[list[np.ndarray], list[str]]]:
    """Yield pictures and captions of the readable rows, a bounded number of pixels at a time."""
    rows = {row["row"]: row for row in readable.to_pylist()}
    pictures: list[np.ndarray] = []
    captions: list[str] = []
    pixels = seen = 0
    for record in piece.read(frozenset(rows)):
        row = rows[record.row]
        try:
            data = fetch(record)
            if hashlib.sha256(data).digest() != row["content"]:
                raise SourceError(
                    f"{row['name']}: changed since it was measured; start again when the source is at rest"
                )
            picture = np.asarray(decode(data, max_pixels).image)
        except UnreadableError as error:
            raise SourceError(f"{row['name']}: could be read at first, then no longer: {error.detail}") from error
        if pictures and (len(pictures) == _PICTURES_AT_ONCE or pixels + picture.size // 3 > _PIXELS_AT_ONCE):
            yield pictures, captions
            pictures, captions, pixels = [], [], 0
        pictures.append(picture)
        captions.append(row["caption"])
        pixels += picture.size // 3
        seen += 1
    if seen != len(rows):
        raise SourceError(f"{len(rows) - seen} pictures are gone since they were measured; start again")
    if pictures:
        yield pictures, captions
