"""What networks said of the readable pictures of a slice: files beside its facts, and facts with their answers.

Every scorer and the captioner has a folder that is named by what its answers follow from. In it lies a Parquet file for
each slice, below the name of the folder of the facts that it goes with.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infinity import storage
from infinity.data.sources.samples import CaptionChoice
from infinity.data.tables import parquet_bytes

CAPTION = "caption"
"""Name of a captioner's answers; all others are names of scores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Places of all answers.

    Attributes:
        folders: Name of a score, or ``CAPTION``, and the URI of its folder.
        choice: Choice between a model's caption, the long one, and the source's.
    """

    folders: tuple[tuple[str, str], ...] = ()
    choice: CaptionChoice = "long"

    def only(self, name: str) -> Answers:
        """Return the answers of one name, or none where it has none."""
        return Answers(folders=tuple(each for each in self.folders if each[0] == name), choice=self.choice)

    def attach(self, facts: pa.Table, uri: str) -> pa.Table:
        """Return facts of a slice with new captions and a float32 column for each score, null where it is unreadable.

        Args:
            uri: URI of the file of the facts.

        Raises:
            StorageError: Answers are missing or cannot be read.
            AnswersError: A file holds the answers of other rows.
        """
        found = {name: _read(place_of(folder, uri), facts) for name, folder in self.folders}
        captions = found.pop(CAPTION, None)
        if captions is not None:
            facts = recaptioned(facts, captions, self.choice)
        return with_scores(facts, found)


class AnswersError(ValueError):
    """A file does not hold the answers that belong to the facts of a slice."""


def place_of(folder: str, facts: str) -> str:
    """Return the URI of the answers in a folder that belong to a file of facts."""
    return storage.join(folder, storage.name(storage.parent(facts)), storage.name(facts))


def absent(folder: str, facts: Sequence[str]) -> list[bool]:
    """Return for every file of facts whether its answers are missing in a folder; each folder of facts is listed once.

    Raises:
        StorageError: The folder cannot be listed.
    """
    names = {storage.name(storage.parent(uri)) for uri in facts}
    there = {
        storage.join(name, storage.name(file))
        for name in names
        for file in storage.list_files(storage.join(folder, name))
    }
    return [storage.join(storage.name(storage.parent(uri)), storage.name(uri)) not in there for uri in facts]


def keep(uri: str, rows: pa.ChunkedArray, name: str, answers: Sequence[float | str]) -> None:
    """Write the answers of the readable rows of a slice; what another job wrote meanwhile stays."""
    kind = pa.string() if name == CAPTION else pa.float32()
    table = pa.table({"row": rows.combine_chunks(), name: pa.array(answers, kind)})
    try:
        storage.write_bytes(uri, parquet_bytes(table), if_absent=True)
    except storage.FileAlreadyThereError:
        return  # another job judged the same slice meanwhile, and said the same


def _read(uri: str, facts: pa.Table) -> pa.Array:
    """Return the answers that lie at a URI, one for each readable row."""
    data = storage.read_bytes(uri)
    try:
        answers = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise AnswersError(f"{uri}: expected a Parquet file of a network's answers ({error})") from error
    wanted = len(facts) - facts["problem"].drop_null().length()
    if answers.num_columns != 2 or answers.num_rows != wanted:
        raise AnswersError(
            f"{uri}: expected the answers to {wanted} pictures, found {answers.num_rows} rows and "
            f"{answers.num_columns} columns; remove the file, and the network is asked again"
        )
    return answers.column(1).combine_chunks()


def with_scores(facts: pa.Table, scores: Mapping[str, pa.Array]) -> pa.Table:
    """Return facts with a float32 column for each score; null where a picture cannot be read."""
    readable = np.flatnonzero(np.asarray(pc.is_null(facts["problem"])))
    for name, values in scores.items():
        column: list[float | None] = [None] * facts.num_rows
        for place, value in zip(readable.tolist(), values.to_pylist(), strict=True):
            column[place] = value
        facts = facts.append_column(name, pa.array(column, pa.float32()))
    return facts


def recaptioned(facts: pa.Table, captions: pa.Array, choice: CaptionChoice) -> pa.Table:
    """Return facts with the model's caption as the long and the source's as the short one, where a row has both."""
    readable = np.flatnonzero(np.asarray(pc.is_null(facts["problem"]))).tolist()
    columns = {name: facts[name].to_pylist() for name in (CAPTION, "caption_long", "caption_short")}
    for place, long in zip(readable, captions.to_pylist(), strict=True):
        short = columns["caption_short"][place] or columns[CAPTION][place]
        if not long:
            continue
        if short:
            columns["caption_long"][place], columns["caption_short"][place] = long, short
        columns[CAPTION][place] = long if choice == "long" or not short else short
    for name, values in columns.items():
        facts = facts.set_column(facts.schema.get_field_index(name), name, pa.array(values, pa.string()))
    return facts
