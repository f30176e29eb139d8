"""Rows that would teach a model the answers of its evaluation: captions and pictures of evaluation sets.

A caption matches a prompt if their words are equal, or if the longer of the two holds a good share of the word
sequences of the shorter one. A picture matches one of an evaluation set if it has the same pixels or nearly so.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int, UInt8

from infinity import storage
from infinity.config import digest_of
from infinity.data.curation.facts import FACTS, measure_slice
from infinity.data.curation.filters import Decontamination
from infinity.data.dedup.duplicates import Match
from infinity.data.dedup.minhash import shingles
from infinity.data.dedup.near_duplicates import Fingerprints, Thumbnails, similar_to_known, thumbnails_in
from infinity.data.dedup.words import words
from infinity.data.images.fingerprint import THUMBNAIL_PX
from infinity.data.sources.opening import open_source
from infinity.storage.lines import json_objects, text_lines

_PROMPT_FIELDS = ("prompt", "text", "caption")


class EvaluationSetError(ValueError):
    """An evaluation set holds no prompts or pictures where some are expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSets:
    """Prompts and facts of pictures (columns of ``FACTS``) that must not be trained on."""

    prompts: tuple[str, ...]
    pictures: pa.Table

    def digest(self) -> str:
        """Return a name for the prompts and pictures, whatever place they came from."""
        pixels = sorted(value.hex() for value in self.pictures["pixels"].to_pylist())
        return digest_of([list(self.prompts), pixels])


def load_evaluation_sets(config: Decontamination, max_pixels: int) -> EvaluationSets:
    """Read all prompt lists and measure all pictures that the settings name.

    Raises:
        EvaluationSetError: A list without prompts.
        SourceError: Pictures of an unknown form.
        StorageError: A place cannot be read.
    """
    prompts = tuple(dict.fromkeys(prompt for uri in config.prompts for prompt in read_prompts(uri)))
    tables = [FACTS.empty_table()]
    for uri in config.pictures:
        tables += [measure_slice(piece, max_pixels).facts for piece in open_source(uri).slices]
    pictures = pa.concat_tables(tables)
    readable = pictures.filter(pc.is_null(pictures["problem"]))
    if config.pictures and not readable.num_rows:
        raise EvaluationSetError(f"{', '.join(config.pictures)}: expected pictures that can be read, found none")
    return EvaluationSets(prompts=prompts, pictures=readable)


def read_prompts(uri: str) -> list[str]:
    """Return the prompts of a .jsonl, .csv or .txt file, or of a folder of .txt files with one prompt each.

    Raises:
        EvaluationSetError: The place holds no prompts.
        StorageError: The place cannot be read.
    """
    if uri.endswith(".jsonl"):
        found = [_field(row, where) for where, row in json_objects(storage.read_bytes(uri), uri, skips_blank=True)]
    elif uri.endswith(".csv"):
        found = _csv_prompts(uri)
    elif uri.endswith(".txt"):
        found = [line for _, line in text_lines(storage.read_bytes(uri), uri)]
    else:
        found = [storage.read_text(file) for file in storage.list_files(uri) if file.endswith(".txt")]
    prompts = [" ".join(text.split()) for text in found if text.strip()]
    if not prompts:
        raise EvaluationSetError(
            f"{uri}: expected prompts (.jsonl or .csv with a field prompt, .txt with one a line, or a folder of .txt "
            "files), found none"
        )
    return prompts


def matching_captions(rows: pa.Table, prompts: tuple[str, ...], config: Decontamination) -> list[Match]:
    """Return rows of which any caption matches a prompt, with the prompt."""
    index = _PromptIndex(prompts, config)
    columns = [rows[name].to_pylist() for name in ("caption", "caption_long", "caption_short", "further")]
    matches = []
    for row, (*captions, further) in enumerate(zip(*columns, strict=True)):
        texts = [*captions, *(json.loads(further) if further else ())]
        found = [prompt for text in texts if text and (prompt := index.match(text)) is not None]
        if found:
            matches.append(Match(row, f"prompt {found[0]!r}"))
    return matches


def matching_pictures(
    rows: pa.Table, pictures: pa.Table, config: Decontamination, thumbnails: Thumbnails | None = None
) -> list[Match]:
    """Return rows whose picture is one of an evaluation set, or nearly one, with the name of that one.

    Args:
        rows: Facts of readable pictures.
        pictures: Facts of those of the evaluation sets.
        config: Limits of nearness.
        thumbnails: Function from places in ``rows`` to thumbnails; None takes them from the column ``thumbnail``.
    """
    names = pictures["name"].to_pylist()
    exact = dict(zip(pictures["pixels"].to_pylist(), names, strict=True))
    found = {row: exact[value] for row, value in enumerate(rows["pixels"].to_pylist()) if value in exact}
    columns = ["phash", "width_px", "height_px"]
    together = pa.concat_tables([pictures.select(columns), rows.select(columns)]).combine_chunks()
    looks = Fingerprints.of(
        together, _one_behind_another(len(names), thumbnails_in(pictures), thumbnails or thumbnails_in(rows))
    )
    known, new = similar_to_known(looks, config.near, len(names))
    for picture, row in zip(known.tolist(), (new - len(names)).tolist(), strict=True):
        found.setdefault(row, names[picture])
    return [Match(row, f"evaluation picture {found[row]}") for row in sorted(found)]


def _one_behind_another(number: int, first: Thumbnails, second: Thumbnails) -> Thumbnails:
    """Return thumbnails of places in two tables, of which the first has ``number`` rows."""

    def get(places: Int[np.ndarray, " m"]) -> UInt8[np.ndarray, "m 32 32 3"]:
        found = np.empty((len(places), THUMBNAIL_PX, THUMBNAIL_PX, 3), np.uint8)
        before = places < number
        found[before], found[~before] = first(places[before]), second(places[~before] - number)
        return found

    return get


class _PromptIndex:
    """Finds the prompt that a caption gives away."""

    def __init__(self, prompts: tuple[str, ...], config: Decontamination) -> None:
        self._config = config
        self._prompts = sorted(prompts)
        self._equal = {tuple(words(prompt)): prompt for prompt in reversed(self._prompts)}
        self._sizes: list[int] = []
        self._holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, prompt in enumerate(self._prompts):
            found = self._sequences(prompt)
            self._sizes.append(len(found))
            for sequence in found:
                self._holders[sequence].append(number)

    def match(self, caption: str) -> str | None:
        """Return the equal prompt, or else the one that shares most of the shorter text's sequences; or None."""
        if (equal := self._equal.get(tuple(words(caption)))) is not None:
            return equal
        found = self._sequences(caption)
        shared = Counter(number for sequence in found for number in self._holders.get(sequence, ()))
        shares = [(count / min(len(found), self._sizes[number]), -number) for number, count in shared.items()]
        best, number = max(shares, default=(0.0, 0))
        return self._prompts[-number] if shares and best >= self._config.containment else None

    def _sequences(self, text: str) -> frozenset[tuple[str, ...]]:
        size = self._config.ngram
        return frozenset(each for each in shingles(text, size) if len(each) >= size)


def _field(row: dict[str, object], uri: str) -> str:
    for name in _PROMPT_FIELDS:
        if isinstance(value := row.get(name), str):
            return value
    names = sorted(name for name in row if isinstance(name, str))  # cells without a heading have None
    raise EvaluationSetError(f"{uri}: expected a field {' or '.join(_PROMPT_FIELDS)} in every row, found {names}")


def _csv_prompts(uri: str) -> list[str]:
    rows = csv.DictReader(io.StringIO(storage.read_text(uri), newline=""))  # lines may also end in \r alone
    try:
        return [_field(row, uri) for row in rows]
    except csv.Error as error:
        raise EvaluationSetError(f"{uri}, line {rows.line_num}: expected a row of CSV, found none ({error})") from error
