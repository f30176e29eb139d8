"""What a benchmark over prompts is: items, pictures of each, a judge that writes one record an item, figures at last.

A benchmark says what is asked and how answers are judged. Drawing the pictures, keeping them, sharing them between
benchmarks, cutting the work into parts and going on after a crash is the business of the job.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from infinity import storage
from infinity.config import Config, digest_of
from infinity.evaluation.benchmark import BenchmarkResult
from infinity.evaluation.networks import Networks
from infinity.evaluation.pictures.files import digest_of_files, is_picture
from infinity.evaluation.pictures.store import Drawing, Picture, PictureError, PictureStore, read_picture
from infinity.evaluation.pictures.table import is_table, read_table
from infinity.evaluation.prompts.rewriting import Rewriter

Record = Mapping[str, Any]
"""What a judge found about one item, as JSON values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptItem:
    """One prompt of a benchmark.

    Attributes:
        id: Names it within the benchmark; also the name of its pictures.
        prompt: As the benchmark has it. What is drawn may be a rewriting of it.
        about: What a judge needs to know beside the pictures, as JSON values.
    """

    id: str
    prompt: str
    about: Record = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureFolder(Config):
    """Pictures that were drawn elsewhere, in the reference's layout.

    Attributes:
        uri: Their folder, or a table of prompt and file. In a folder: one folder an item with ``samples/<number>.png``
            in it, as GenEval has it, or files ``<id>.png``, as DPG-Bench has them; any picture ending will do.
        size_px: Rows and columns that every file must have; others count as missing. None takes any size.
        name: Of the model that drew them, for people.
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
        """Whose pictures these are, in words.

        Args:
            name: Of the model that drew them, where the folder has none.
            digest: Of their content.
        """
        who = self.name or name
        where = storage.name(self.uri.rstrip("/"))
        return f"pictures {f'of {who}, ' if who else ''}drawn elsewhere: {where} (digest {digest})"

    def content(self) -> str:
        """16 hexadecimal digits over the names and contents of all pictures, and of what says whose they are.

        Raises:
            PictureError: There is no file.
            ValueError: A table that cannot be read.
        """
        if self.is_table:
            rows = read_table(self.uri)
            there = {uri: storage.sha256(uri) for row in rows if storage.exists(uri := row.uri)}
            return digest_of([[row.prompt, there.get(row.uri, "")] for row in rows])
        wanted = ((path, info) for path, info in self.files().items() if is_picture(path) or path.endswith(".jsonl"))
        return digest_of_files(wanted)

    def files(self) -> dict[str, storage.FileInfo]:
        """All files by their path below the folder.

        Raises:
            PictureError: There is none.
        """
        listed = storage.list_details(self.uri)
        if not listed:
            raise PictureError(f"{self.uri}: expected a folder of pictures, found no files")
        start = len(self.uri.rstrip("/")) + 1
        return {info.uri[start:]: info for info in listed}


@dataclass(frozen=True, slots=True)
class PicturePlace:
    """Where one picture lies.

    Attributes:
        uri: The file.
        name: Its path below the store or folder, the same wherever that lies.
        version: Changes with what lies there.
    """

    uri: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class MissingPicture:
    """A picture that is not there or not fit, and why."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSample:
    """An item with what was drawn for it.

    Attributes:
        item: What was asked.
        drawn: The text that was drawn: the prompt or its rewriting.
        places: Its pictures in order; a gap stands for one that was expected and is not there.
        size_px: Rows and columns that the pictures must have, or None.
        must_be_there: A picture that cannot be read is an error instead of a gap: it was drawn here.
    """

    item: PromptItem
    drawn: str
    places: tuple[PicturePlace | MissingPicture, ...]
    size_px: tuple[int, int] | None = None
    must_be_there: bool = False

    def pictures(self) -> tuple[Picture | MissingPicture, ...]:
        """The pictures, read from storage; what cannot be used is a gap.

        Raises:
            PictureError: One that was drawn here is missing or damaged.
        """
        return tuple(place if isinstance(place, MissingPicture) else self._read(place) for place in self.places)

    def digest(self) -> str:
        """Names all that a verdict depends on beside the judge."""
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
    """Looks at pictures; the same answer on every worker."""

    def __call__(
        self, samples: Sequence[PromptSample], pictures: Sequence[Sequence[Picture | MissingPicture]]
    ) -> Sequence[Record]:
        """One record for every item."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedPrompts:
    """Everything that was asked and what the judge found, in the order of the benchmark."""

    samples: tuple[PromptSample, ...]
    records: tuple[Record, ...]

    def __iter__(self) -> Iterator[tuple[PromptSample, Record]]:
        return iter(zip(self.samples, self.records, strict=True))


class PromptBenchmark(Protocol):
    """One benchmark over prompts."""

    @property
    def name(self) -> str:
        """Slug that begins the names of its metrics."""
        ...

    @property
    def pictures_per_prompt(self) -> int:
        """Drawings of every prompt, with seeds from the subject's on."""
        ...

    @property
    def rewriter(self) -> Rewriter | None:
        """Who rewrites prompts before they are drawn; None draws them as they are."""
        ...

    @property
    def pictures(self) -> PictureFolder | None:
        """Pictures that were drawn elsewhere; None draws them."""
        ...

    def items(self) -> tuple[PromptItem, ...]:
        """The prompts; raises ValueError where there is none."""
        ...

    def find(self, folder: PictureFolder, items: Sequence[PromptItem]) -> list[PromptSample]:
        """Pictures of the items in a folder of pictures that were drawn elsewhere."""
        ...

    def judge_settings(self) -> Mapping[str, Any]:
        """All that a verdict depends on beside an item and its pictures, as JSON: networks, thresholds, version."""
        ...

    def judge(self, networks: Networks) -> Judge:
        """The judge, on a worker."""
        ...

    def summarize(self, results: JudgedPrompts) -> BenchmarkResult:
        """Figures out of all records."""
        ...


def drawings(drawn: str, number: int, seed: int) -> tuple[Drawing, ...]:
    """The drawings of one text: seeds ``seed``, ``seed`` + 1 and so on."""
    return tuple(Drawing(drawn, seed + j) for j in range(number))


def in_store(store: PictureStore, item: PromptItem, drawn: str, wanted: Sequence[Drawing]) -> PromptSample:
    """An item whose pictures are drawings of a store."""
    places = tuple(PicturePlace(store.uri(drawing), store.key(drawing), store.key(drawing)) for drawing in wanted)
    return PromptSample(item=item, drawn=drawn, places=places, must_be_there=True)


def split_missing(pictures: Sequence[Picture | MissingPicture]) -> tuple[list[Picture], list[str]]:
    """The pictures that can be judged, and the reasons why others cannot."""
    usable = [picture for picture in pictures if not isinstance(picture, MissingPicture)]
    return usable, [picture.reason for picture in pictures if isinstance(picture, MissingPicture)]


def note_of_missing(missing: int, total: int, what: str, first: str) -> str:
    """The sentence that a figure over fewer than all items carries; empty when nothing is missing."""
    if not missing:
        return ""
    return f"INCOMPLETE: {missing} of {total} {what} could not be scored and are in no mean (first: {first})"


def join_notes(*notes: str) -> str:
    """Notes that say something, one after the other."""
    return "; ".join(note for note in notes if note)


def described(sample: PromptSample) -> Record:
    """How an item begins on a line of a record: id, prompt, and what was drawn where that is something else."""
    drawn = {} if sample.drawn == sample.item.prompt else {"drawn": sample.drawn}
    return {"id": sample.item.id, "prompt": sample.item.prompt, **drawn}
