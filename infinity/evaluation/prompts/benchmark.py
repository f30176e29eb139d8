"""What a benchmark over prompts is: items, pictures of each, a judge with one record per item, scores at the end.

A benchmark says what is drawn and how pictures are judged. The job draws pictures, keeps them, shares them between
benchmarks, splits the work, and continues after a crash (decision 21).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar, Protocol, TypeVar

from infinity import storage
from infinity.config import Config, digest_of
from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.networks import Networks
from infinity.evaluation.pictures.files import digest_of_files, in_sight, is_picture
from infinity.evaluation.pictures.store import Drawing, Picture, PictureError, PictureStore, read_picture
from infinity.evaluation.pictures.table import is_table, read_table
from infinity.evaluation.prompts.rewriting import Rewriter

SCORE_FILE = "vqa_result.json"
"""File that a benchmark's own scripts write beside pictures: their scores, which belong to what is read."""

Record = Mapping[str, Any]
"""What a judge found for one item, as JSON values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptItem:
    """One prompt of a benchmark.

    Attributes:
        id: Name of the item within the benchmark; also the name of its pictures.
        prompt: The benchmark's prompt. The text that is drawn may be a rewriting of it.
        about: What a judge needs to know besides the pictures, as JSON values.
    """

    id: str
    prompt: str
    about: Record = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureFolder(Config):
    """Pictures that were drawn elsewhere, in a published layout.

    Attributes:
        uri: Folder of the pictures, or a table of prompt and file. A folder has either one folder per item with
            ``samples/<number>.png`` (GenEval), or files ``<id>.png`` (DPG-Bench); any picture ending is accepted.
        size_px: Rows and columns that every file must have; other files count as missing. None accepts any size.
        name: Name of the model that drew them, in words.
    """

    later: ClassVar[frozenset[str]] = frozenset({"name"})

    uri: str
    size_px: tuple[int, int] | None = None
    name: str = ""

    @property
    def is_table(self) -> bool:
        """Whether it is a table of prompt and file instead of a folder."""
        return is_table(self.uri)

    def origin(self, name: str, digest: str) -> str:
        """Return whose pictures these are, in words.

        Args:
            name: Name of the model that drew them, where the folder states none.
        """
        who = self.name or name
        where = storage.name(self.uri.rstrip("/!"))  # "!" ends the inside of an archive
        return f"pictures {f'of {who}, ' if who else ''}drawn elsewhere: {where} (digest {digest})"

    def content(self) -> str:
        """Return 16 hexadecimal digits over names and contents of all pictures, and of metadata and scores beside them.

        Raises:
            PictureError: There is no file.
            ValueError: A table that cannot be read.
        """
        if self.is_table:
            rows = read_table(self.uri)
            there = {uri: storage.sha256(uri) for row in rows if storage.exists(uri := row.uri)}
            return digest_of([[row.prompt, there.get(row.uri, "")] for row in rows])
        beside = (".jsonl", f"/{SCORE_FILE}")
        wanted = ((path, info) for path, info in self.files().items() if is_picture(path) or path.endswith(beside))
        return digest_of_files(wanted)

    def files(self) -> dict[str, storage.FileInfo]:
        """Return all files by their path below the folder, without hidden ones.

        Raises:
            PictureError: There is no file.
        """
        listed = in_sight(self.uri, storage.list_details(self.uri))
        if not listed:
            raise PictureError(f"{self.uri}: expected a folder of pictures, found no files")
        start = len(self.uri.rstrip("/")) + 1
        return {info.uri[start:]: info for info in listed}


@dataclass(frozen=True, slots=True)
class PicturePlace:
    """Location of one picture.

    Attributes:
        uri: URI of the file.
        name: Path below the store or folder, which is the same wherever the store lies.
        version: Text that changes when the content changes.
    """

    uri: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class MissingPicture:
    """A picture that is absent or cannot be used, and the reason."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSample:
    """An item with its pictures.

    Attributes:
        drawn: The text that was drawn: the prompt or its rewriting.
        places: Locations of its pictures in order; a `MissingPicture` stands for one that was expected but is absent.
        size_px: Rows and columns that the pictures must have, or None.
        must_be_there: Whether an unreadable picture is an error rather than missing, because it was drawn here.
    """

    item: PromptItem
    drawn: str
    places: tuple[PicturePlace | MissingPicture, ...]
    size_px: tuple[int, int] | None = None
    must_be_there: bool = False

    def pictures(self) -> tuple[Picture | MissingPicture, ...]:
        """Return the pictures, read from storage; those that cannot be used are `MissingPicture`.

        Raises:
            PictureError: A picture that was drawn here is missing or damaged.
        """
        return tuple(place if isinstance(place, MissingPicture) else self._read(place) for place in self.places)

    def digest(self) -> str:
        """Return a digest of all that a verdict depends on besides the judge."""
        versions = [place.reason if isinstance(place, MissingPicture) else place.version for place in self.places]
        return digest_of([self.item.id, self.item.prompt, self.item.about, self.drawn, versions, self.size_px])

    def _read(self, place: PicturePlace) -> Picture | MissingPicture:
        try:
            picture = read_picture(place.uri)
        except PictureError as error:
            if self.must_be_there:
                raise
            return MissingPicture(str(error))
        if self.size_px is not None and picture.shape[:2] != self.size_px:
            found, wanted = ("x".join(map(str, size)) for size in (picture.shape[:2], self.size_px))
            return MissingPicture(f"expected {wanted} pixels (rows x columns), found {found}")
        return picture


class Judge(Protocol):
    """Function that judges pictures, with the same result on every worker."""

    def __call__(
        self, samples: Sequence[PromptSample], pictures: Sequence[Sequence[Picture | MissingPicture]]
    ) -> Sequence[Record]:
        """Return one record per item."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedPrompts:
    """All samples and what the judge found, in the order of the benchmark."""

    samples: tuple[PromptSample, ...]
    records: tuple[Record, ...]

    def __iter__(self) -> Iterator[tuple[PromptSample, Record]]:
        return iter(zip(self.samples, self.records, strict=True))

    def lines(self) -> list[Record]:
        """Return a line per item for the records of a report."""
        return [{**described(sample), **record} for sample, record in self]

    def missing_note(self) -> str:
        """Return the note of scores that leave out items whose record says what is ``missing``."""
        missing = [f"{sample.item.id}: {record['missing']}" for sample, record in self if "missing" in record]
        return note_of_missing(missing, len(self.samples), "prompts")


class PromptBenchmark(Protocol):
    """A benchmark over prompts."""

    @property
    def name(self) -> str:
        """Slug, the first part of the names of its metrics."""
        ...

    @property
    def pictures_per_prompt(self) -> int:
        """Number of pictures of every prompt; their seeds count up from the target's seed."""
        ...

    @property
    def rewriter(self) -> Rewriter | None:
        """Rewriter of prompts before pictures are drawn; None draws prompts as they are."""
        ...

    @property
    def pictures(self) -> PictureFolder | None:
        """Pictures that were drawn elsewhere; None draws them with the model."""
        ...

    def items(self) -> tuple[PromptItem, ...]:
        """Return the prompts; raise ValueError where there is none."""
        ...

    def find(self, folder: PictureFolder, items: Sequence[PromptItem]) -> list[PromptSample]:
        """Return the items with their pictures from a folder of pictures that were drawn elsewhere."""
        ...

    def judge_settings(self) -> Mapping[str, Any]:
        """Return all that a verdict depends on besides an item and its pictures: networks, thresholds, version."""
        ...

    def judge(self, networks: Networks) -> Judge:
        """Return the judge, with its networks loaded."""
        ...

    def summarize(self, results: JudgedPrompts) -> BenchmarkResult:
        """Return the scores from all records."""
        ...


def drawings(drawn: str, number: int, seed: int) -> tuple[Drawing, ...]:
    """Return the drawings of one text, with the seeds ``seed``, ``seed`` + 1 and so on."""
    return tuple(Drawing(drawn, seed + j) for j in range(number))


def in_store(store: PictureStore, item: PromptItem, drawn: str, wanted: Sequence[Drawing]) -> PromptSample:
    """Return an item whose pictures are drawings of a store."""
    places = tuple(PicturePlace(store.uri(drawing), store.key(drawing), store.key(drawing)) for drawing in wanted)
    return PromptSample(item=item, drawn=drawn, places=places, must_be_there=True)


def split_missing(pictures: Sequence[Picture | MissingPicture]) -> tuple[list[Picture], list[str]]:
    """Return the pictures that can be judged, and the reasons why the others cannot."""
    usable = [picture for picture in pictures if not isinstance(picture, MissingPicture)]
    return usable, [picture.reason for picture in pictures if isinstance(picture, MissingPicture)]


_Item = TypeVar("_Item")


def complete(pictures: Sequence[Picture | MissingPicture], least: int = 1) -> list[Picture] | str:
    """Return the pictures of an item if all can be judged and there are enough, else the reason why not."""
    usable, reasons = split_missing(pictures)
    if reasons:
        return reasons[0]
    if len(usable) < least:
        return "no picture" if least == 1 else f"fewer than {least} pictures"
    return usable


def judge_each(look: Callable[[PromptSample, list[Picture]], Record], least: int = 1) -> Judge:
    """Return a judge that looks at one item after the other.

    An item of which a picture is missing is left out: its mean would not compare with that of all pictures.

    Args:
        look: Function from an item and its pictures to the item's record.
        least: Fewest pictures of an item.
    """

    def judge(
        samples: Sequence[PromptSample], pictures: Sequence[Sequence[Picture | MissingPicture]]
    ) -> Sequence[Record]:
        usable = [complete(found, least) for found in pictures]
        return [
            {"missing": found} if isinstance(found, str) else look(sample, found)
            for sample, found in zip(samples, usable, strict=True)
        ]

    return judge


def judge_pictures(name: str, look: Callable[[list[Picture], list[str]], Iterable[Any]]) -> Judge:
    """Return a judge that looks at the pictures of all items at once; items with a missing picture are left out.

    Args:
        name: Name in an item's record of the values of its pictures.
        look: Function from pictures and their prompts to one value per picture, as JSON values.
    """

    def judge(
        samples: Sequence[PromptSample], pictures: Sequence[Sequence[Picture | MissingPicture]]
    ) -> Sequence[Record]:
        usable = [complete(found) for found in pictures]
        pairs = [
            (picture, sample.item.prompt)
            for sample, found in zip(samples, usable, strict=True)
            if not isinstance(found, str)
            for picture in found
        ]
        values = list(look([picture for picture, _ in pairs], [prompt for _, prompt in pairs])) if pairs else []
        assert len(values) == len(pairs)
        left = iter(values)
        return [
            {"missing": found} if isinstance(found, str) else {name: list(islice(left, len(found)))} for found in usable
        ]

    return judge


def spread(items: Sequence[_Item], size: int | None) -> tuple[_Item, ...]:
    """Return this number of items, spread evenly over all; None for all."""
    number = len(items) if size is None else min(size, len(items))
    return tuple(items[place * len(items) // number] for place in range(number))


def note_of_missing(missing: Sequence[str], total: int, what: str) -> str:
    """Return the note of a score over fewer than all items; empty when nothing is missing.

    Args:
        missing: What is missing and why, such as "00007: no picture".
        total: Number of all items.
        what: Word for the items, such as "prompts".
    """
    if not missing:
        return ""
    return f"INCOMPLETE: {len(missing)} of {total} {what} could not be scored and are in no mean (first: {missing[0]})"


def described(sample: PromptSample) -> Record:
    """Return the fields that begin every line of a record: id, prompt, and the drawn text where it differs."""
    drawn = {} if sample.drawn == sample.item.prompt else {"drawn": sample.drawn}
    return {"id": sample.item.id, "prompt": sample.item.prompt, **drawn}
