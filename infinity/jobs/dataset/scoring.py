"""What pretrained networks say of every readable picture: asked once, kept beside the facts.

Every scorer and the captioner has a folder named by what its answers follow from (weights, settings that matter), and
in it a folder for the facts it goes with and a Parquet file for each slice. Thresholds play no part, so a data set
with others asks no network; neither does a job that was killed, for the slices it had finished.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from infinity import storage
from infinity.config import Config, digest_of
from infinity.data.images.decoding import UnreadableError, decode
from infinity.data.sources.checking import fetch
from infinity.data.sources.opening import Slice
from infinity.data.sources.samples import CaptionChoice, SourceError
from infinity.generation.watermark.own_output import OwnOutputConfig
from infinity.jobs.cluster.actors import actors, each
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.progress import Progress, ProgressSink, section
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


@dataclass(frozen=True, slots=True)
class MeasuredSlice:
    """A slice, its facts, and the name that its facts have below their folder: ``<folder>/<first row>.parquet``."""

    piece: Slice
    facts: pa.Table
    name: str


def judge(slices: Sequence[MeasuredSlice], config: ScorersConfig, root: str, progress: ProgressSink) -> list[pa.Table]:
    """Return the facts of every slice with new captions and a column for each score.

    Args:
        slices: Slices of all sources.
        config: Networks to ask.
        root: URI of the folder that all versions of the data set share.
        progress: Callback after every slice.

    Raises:
        ValueError: Weights that are missing or others than expected, an unknown label, a missing library.
        SourceError: A picture is not what it was in the first pass.
        StorageError: Pictures or weights cannot be read, or the answers not be written.
        WorkersError: No room on the cluster, or workers that die.
    """
    tables = [each_slice.facts for each_slice in slices]
    behind = 0.0
    if config.captioner is not None:
        behind = 0.5 if config.scorers else 1.0
        folder = storage.join(root, CAPTIONS_FOLDER, config.captioner.weights_digest())
        columns = {"caption": (folder, config.captioner)}
        answers = _answers(slices, tables, columns, config, section(progress, 0.0, behind))
        tables = [
            _recaptioned(table, found["caption"], config.captions) for table, found in zip(tables, answers, strict=True)
        ]
    if config.scorers:
        told = config.captioner.weights_digest() if config.captioner else ""
        scorers: dict[str, tuple[str, Config]] = {}
        for scorer in config.scorers:
            key = score_key(scorer)  # type: ignore[arg-type]  # a scorer that is loaded by itself, too
            if scorer.kind == "clip_similarity":  # the only one that reads captions
                key = digest_of([key, told, config.captions])
            scorers[scorer.score] = storage.join(root, SCORES_FOLDER, f"{scorer.score}-{key}"), scorer
        answers = _answers(slices, tables, scorers, config, section(progress, behind, 1.0))
        tables = [_with_scores(table, found) for table, found in zip(tables, answers, strict=True)]
    return tables


def _answers(
    slices: Sequence[MeasuredSlice],
    tables: Sequence[pa.Table],
    judges: Mapping[str, tuple[str, Config]],
    config: ScorersConfig,
    progress: ProgressSink,
) -> list[dict[str, pa.Array]]:
    """For each slice the column of every judge, in the order of its readable rows."""
    found: list[dict[str, pa.Array]] = []
    calls: list[tuple[Any, ...]] = []
    for each_slice, table in zip(slices, tables, strict=True):
        uris = {name: storage.join(folder, each_slice.name) for name, (folder, _) in judges.items()}
        known = {name: answer for name, uri in uris.items() if (answer := _stored(uri)) is not None}
        found.append(known)
        if absent := {name: uri for name, uri in uris.items() if name not in known}:
            readable = table.filter(pc.is_null(table["problem"])).select(["row", "name", "caption", "content"])
            calls.append((each_slice.piece, readable, absent, len(found) - 1))
    if not calls:
        return found
    wanted = {name: judge_config for name, (_, judge_config) in judges.items()}
    with actors(_ScoringActor, config.workers, len(calls)) as team:
        work = [(wanted, call[0], call[1], call[2], config.max_pixels) for call in calls]
        for done, (index, answer) in enumerate(each(team, "judge", work), start=1):
            found[calls[index][3]] |= answer
            progress(Progress(done / len(calls), f"{', '.join(wanted)}: {done:,} of {len(calls):,} slices"))
    return found


class _ScoringActor:
    """An actor: holds the networks, looks at one slice after the other."""

    def __init__(self, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._device, self._threads = device, threads
        self._loaded: dict[str, Any] = {}

    def judge(
        self, judges: dict[str, Config], piece: Slice, readable: pa.Table, uris: dict[str, str], max_pixels: int
    ) -> dict[str, pa.Array]:
        """Return the answers of all judges that have a URI, and write them there."""
        networks = self._networks({name: judges[name] for name in uris})
        answers: dict[str, list[Any]] = {name: [] for name in uris}
        for pictures, captions in _batches(piece, readable, max_pixels):
            for name, network in networks.items():
                answers[name] += list(network(pictures, captions))
        columns = {}
        for name, values in answers.items():
            kind = pa.string() if name == "caption" else pa.float32()
            columns[name] = pa.array(values, kind)
            _keep(uris[name], pa.table({"row": readable["row"].combine_chunks(), name: columns[name]}))
        return columns

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


def _keep(uri: str, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_statistics=False)
    try:
        storage.write_bytes(uri, buffer.getvalue(), if_absent=True)
    except storage.FileAlreadyThereError:
        return  # another job judged the same slice meanwhile, and said the same


def _stored(uri: str) -> pa.Array | None:
    """Return the answers that lie at a URI, or None."""
    try:
        data = storage.read_bytes(uri)
    except storage.FileMissingError:
        return None
    return pq.read_table(io.BytesIO(data)).column(1).combine_chunks()


def _with_scores(facts: pa.Table, scores: Mapping[str, pa.Array]) -> pa.Table:
    """Return a float32 column for each score; null where a picture cannot be read."""
    readable = np.flatnonzero(np.asarray(pc.is_null(facts["problem"])))
    for name, values in scores.items():
        column: list[float | None] = [None] * facts.num_rows
        for place, value in zip(readable.tolist(), values.to_pylist(), strict=True):
            column[place] = value
        facts = facts.append_column(name, pa.array(column, pa.float32()))
    return facts


def _recaptioned(facts: pa.Table, captions: pa.Array, choice: CaptionChoice) -> pa.Table:
    """Return facts with the model's caption as the long and the source's as the short one, where a row has both."""
    readable = np.flatnonzero(np.asarray(pc.is_null(facts["problem"]))).tolist()
    columns = {name: facts[name].to_pylist() for name in ("caption", "caption_long", "caption_short")}
    for place, long in zip(readable, captions.to_pylist(), strict=True):
        short = columns["caption_short"][place] or columns["caption"][place]
        if not long:
            continue
        if short:
            columns["caption_long"][place], columns["caption_short"][place] = long, short
        columns["caption"][place] = long if choice == "long" or not short else short
    for name, values in columns.items():
        facts = facts.set_column(facts.schema.get_field_index(name), name, pa.array(values, pa.string()))
    return facts
