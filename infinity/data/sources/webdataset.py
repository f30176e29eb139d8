"""Webdataset shards as a source: tar files in which a picture, its caption and its facts share a name.

A shard is read as a stream of headers and contents. Nothing is extracted, no name from inside is ever used as a path,
and no member but pictures, texts and JSON is looked into: pickles lie there unread. A sample that holds a pickle, a
link, a device or a name that leads out of its folder is not trusted with the rest of it either.
"""

from __future__ import annotations

import tarfile
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from infinity import storage
from infinity.data.images.decoding import LFS_POINTER, UnreadableError, is_lfs_pointer
from infinity.data.sources.columns import SourceColumns
from infinity.data.sources.folders.caption_files import (
    ENDINGS,
    MAX_TEXT_BYTES,
    RARE_ENDINGS,
    TEXT_ENDINGS,
    CaptionFiles,
    fields_of,
)
from infinity.data.sources.folders.file_names import PICTURE_ENDINGS
from infinity.data.sources.folders.label_files import PNG_HEADER_BYTES, is_grey_or_palette
from infinity.data.sources.samples import CaptionChoice, Record, RowCaptions, SourceError
from infinity.data.sources.shard_files import ShardBytes, opened_shard

SHARD_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
ROWS_PER_SHARD = 2**20
"""Row numbers that each shard gets for its own, since nobody counts its samples before it is read."""

MAX_PICTURE_BYTES = 2**27
MAX_NAME_BYTES = 4096
MAX_EXTENSION_BYTES = 2**16
"""A header of extended attributes that is larger holds no name that anybody gave a picture."""

PICTURES = tuple(ending.removeprefix(".") for ending in PICTURE_ENDINGS)
_TABLES = ("jsonl", "ndjson", "csv", "tsv", "parquet", "arrow")
_MAX_MEMBERS = 64
_MAX_JOINED = 2**20
_MAX_INDICES = 16
_MAX_LINKS = 1000
_PICKLES = ("pkl", "pickle", "pyd", "pth", "pt", "joblib", "dill")
_ADVICE = {
    tarfile.LNKTYPE: "; pack the shard with tar --hard-dereference",
    tarfile.SYMTYPE: "; pack the shard with tar --dereference",
    tarfile.GNUTYPE_SPARSE: "; pack the shard without --sparse",
}
_BLOCK = tarfile.BLOCKSIZE
_READ_BYTES = 2**20
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of a shard: its name, where its headers and its content lie, and why it cannot be used, or None."""

    name: str
    begin: int
    offset: int
    num_bytes: int
    problem: UnreadableError | None = None

    @property
    def key(self) -> str:
        """The sample's name: everything before the first dot of the file's name."""
        folder, slash, file = self.name.rpartition("/")
        return folder + slash + file.partition(".")[0]

    @property
    def stem(self) -> str:
        """The sample's name in shards whose names hold further dots: everything before the last one."""
        folder, slash, file = self.name.rpartition("/")
        return folder + slash + file.rpartition(".")[0]

    def key_of(self, is_dotted: bool) -> str:
        """Return the name of the sample, as the shard spells it."""
        return self.stem if is_dotted else self.key

    @property
    def is_hidden(self) -> bool:
        """True where the name begins with a dot, as what macOS puts beside each file."""
        return self.name.rpartition("/")[2].startswith(".")

    @property
    def ending(self) -> str:
        """The last part of the file's name, in small letters."""
        return self.name.rpartition("/")[2].rpartition(".")[2].lower()


@dataclass(frozen=True, slots=True)
class ShardSlice:
    """A webdataset shard, read as one slice."""

    uri: str
    first_row: int
    captions: CaptionChoice
    columns: SourceColumns = field(default_factory=SourceColumns)

    def read(self, wanted: frozenset[int] | None = None) -> Iterator[Record]:
        """Yield one record per sample; where a shard is damaged, one more with the problem, and then no more."""
        if wanted is not None and not any(self.first_row <= row < self.first_row + ROWS_PER_SHARD for row in wanted):
            return
        try:
            with opened_shard(self.uri, _READ_BYTES) as reader:
                yield from self._records(reader, wanted)
        except UnreadableError as error:  # of the shard as a whole
            if wanted is None or self.first_row in wanted:
                yield Record(row=self.first_row, name=storage.name(self.uri), problem=error, raw=self.uri.encode())

    def _records(self, reader: ShardBytes, wanted: frozenset[int] | None) -> Iterator[Record]:
        if reader.size < _BLOCK and is_lfs_pointer(reader.pread(0, 64)):
            raise UnreadableError("bad_file", LFS_POINTER)
        index = _indexed(self.uri, reader)
        if wanted is not None:
            for row in sorted(row for row in wanted if 0 <= row - self.first_row < len(index)):
                yield self._record(row, index.sample(row - self.first_row, reader), reader)
            return
        found = samples(reader, is_dotted=index.is_dotted) if index.joined is None else iter(index.joined)
        for row, sample in enumerate(found, start=self.first_row):
            if row == self.first_row + ROWS_PER_SHARD - 1:
                problem = UnreadableError("bad_file", f"more than {ROWS_PER_SHARD - 1:,} samples in one shard")
                yield Record(row=row, name=storage.name(self.uri), problem=problem)
                return
            yield self._record(row, sample, reader)

    def _record(self, row: int, sample: tuple[Member, ...], reader: ShardBytes) -> Record:
        name = f"{storage.name(self.uri)}/{sample[0].key}"
        captions: dict[str, Any] = {}
        try:
            picture = _picture_of(sample, reader)
            fields = self._fields(sample, reader)
            found = self.columns.captions_of(fields, self.captions)
            if found.caption is None and not fields:
                names = ", ".join(member.name for member in sample[:5])
                found = RowCaptions(found=f"no caption in {names}; if a table has it, unpack the shard first")
            url = next((fields[name] for name in self.columns.urls(fields) if isinstance(fields[name], str)), None)
            captions = {**found.fields, "url": url}
            data = _content(picture, reader, MAX_PICTURE_BYTES)
        except UnreadableError as error:
            shown = "\n".join(f"{member.name} {member.num_bytes}" for member in sample[:100])
            raw = shown.encode("utf-8", "backslashreplace")
            return Record(row=row, name=name, problem=error, raw=raw, **captions)
        return Record(row=row, name=f"{storage.name(self.uri)}/{picture.name}", image=data, **captions)

    def _fields(self, sample: tuple[Member, ...], reader: ShardBytes) -> dict[str, Any]:
        """Return the facts of a sample's JSON, with its text as the short or only caption."""
        told = [member for member in sample if member.ending in ("json", *RARE_ENDINGS)]
        told += self._texts(sample)
        return fields_of(((member.name, _content(member, reader, MAX_TEXT_BYTES)) for member in told), self.columns)

    def _texts(self, sample: tuple[Member, ...]) -> list[Member]:
        """Return the texts of a sample that are captions, the one that counts most last.

        That is the text with the picture's name; of ``0.caption.txt`` and ``0.tags.txt`` the one with a column's name.
        """
        names = {sample[0].key, *(member.stem for member in sample if member.ending in PICTURES)}
        texts = [member for member in sample if member.ending in TEXT_ENDINGS]
        plain = [member for member in texts if member.stem in names]
        others = [(member, (member.stem[len(member.key) + 1 :],)) for member in texts if member.stem not in names]
        named = [member for member, middle in others if self.columns.shorts(middle) or self.columns.longs(middle)]
        return [*named, *plain] or texts


def shard_slices(
    uris: tuple[str, ...], captions: CaptionChoice, columns: SourceColumns, first_row: int = 0
) -> list[ShardSlice]:
    """Return one slice per shard; a shard is not opened here.

    Raises:
        SourceError: More shards than row numbers.
    """
    if len(uris) >= 2**42:
        raise SourceError(f"expected fewer than {2**42} shards, found {len(uris)}")
    return [ShardSlice(uri, first_row + i * ROWS_PER_SHARD, captions, columns) for i, uri in enumerate(uris)]


def samples(reader: ShardBytes, start: int = 0, is_dotted: bool = False) -> Iterator[tuple[Member, ...]]:
    """Yield groups of successive members that share a key, from the offset of a header on; hidden ones are skipped."""
    group: list[Member] = []
    for member in members(reader, start):
        if member.is_hidden and member.problem is None:
            continue
        if group and member.key_of(is_dotted) != group[0].key_of(is_dotted):
            yield tuple(group)
            group = []
        if len(group) < _MAX_MEMBERS:
            group.append(member)
        else:
            group[-1] = _too_many(member)
    if group:
        yield tuple(group)


def members(reader: ShardBytes, start: int = 0) -> Iterator[Member]:
    """Yield all entries of a tar in their order, headers only; damage is a member with a problem, and the last.

    tarfile reads the headers one by one; the walk is ours, because tarfile follows chains of extended headers by
    recursion and reads such a header into memory however large it says it is.

    Args:
        start: Offset of a header.
    """
    offset, begin, long_name = start, start, ""
    links: set[str] = set()
    while offset + _BLOCK <= reader.size:
        block = reader.pread(offset, _BLOCK)
        if block.count(0) == _BLOCK:
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            problem = UnreadableError("bad_file", f"no tar header: {error}")
            yield Member(f"offset {offset}", begin, offset, 0, problem)
            return
        content, size = offset + _BLOCK, info.size
        if size < 0 or content + size > reader.size:
            detail = f"{size:,} bytes promised, {reader.size - content:,} there: the shard is cut off"
            yield Member(long_name or info.name, begin, content, 0, UnreadableError("bad_file", detail))
            return
        offset = content + (size + _BLOCK - 1) // _BLOCK * _BLOCK
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE) and size <= MAX_EXTENSION_BYTES:
            long_name = _long_name(info, reader.pread(content, size)) or long_name
        elif info.type not in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK, tarfile.DIRTYPE):
            name = long_name or info.name
            if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) and len(links) < _MAX_LINKS:
                links.add(name.rstrip("/"))
            yield _member(name, info, begin, content, links)
            long_name, begin = "", offset
    problem = UnreadableError("bad_file", f"no end mark at offset {offset}: the shard may be cut off")
    yield Member(f"offset {offset}", begin, offset, 0, problem)


def _member(name: str, info: tarfile.TarInfo, begin: int, start: int, links: set[str]) -> Member:
    problem = None
    if info.type not in _REGULAR:
        advice = _ADVICE.get(info.type, "")
        problem = UnreadableError("unsafe_member", f"{name!r} is no plain file (tar type {info.type!r}){advice}")
    elif any(name[:at] in links for at, char in enumerate(name[:MAX_NAME_BYTES]) if char == "/"):
        problem = UnreadableError("unsafe_member", f"{name[:100]!r} lies below a link")
    elif len(name) > MAX_NAME_BYTES or "\0" in name or "\\" in name:
        problem = UnreadableError("unsafe_member", f"{name[:100]!r}: a name that is none")
    elif _leads_out(name):
        problem = UnreadableError("unsafe_member", f"{name[:100]!r} leads out of the shard")
    return Member(name[:MAX_NAME_BYTES], begin, start, info.size, problem)


def _leads_out(name: str) -> bool:
    """Return whether a name would lie above the folder that the shard were unpacked in."""
    if name.startswith("/") or "://" in name:
        return True
    depth = 0
    for part in name.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return True
    return False


def _long_name(info: tarfile.TarInfo, data: bytes) -> str:
    """Return the name in a GNU long-name header, or in the ``path`` of a pax header; empty if there is none."""
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    name, at = "", 0
    while at < len(data):
        digits, blank, _ = data[at : at + 20].partition(b" ")
        if not blank or not digits.isdigit() or int(digits) <= len(digits) + 1:
            break
        keyword, _, value = data[at + len(digits) + 1 : at + int(digits) - 1].partition(b"=")
        if keyword == b"path":
            name = value.decode("utf-8", "surrogateescape")
        at += int(digits)
    return name


@dataclass(frozen=True, slots=True)
class _Index:
    """Places of a shard's samples: their beginnings, or all their members where those lie apart."""

    begins: array[int]
    joined: tuple[tuple[Member, ...], ...] | None = None
    is_dotted: bool = False

    def __len__(self) -> int:
        return len(self.begins) if self.joined is None else len(self.joined)

    def sample(self, number: int, reader: ShardBytes) -> tuple[Member, ...]:
        if self.joined is not None:
            return self.joined[number]
        return next(samples(reader, self.begins[number], self.is_dotted))


_INDICES: OrderedDict[tuple[str, int], _Index] = OrderedDict()
"""Indices of the shards that were read last: whoever wants some rows comes again for others."""


def _indexed(uri: str, reader: ShardBytes) -> _Index:
    """Return the index of a shard; its size tells a shard that was written anew."""
    key = (uri, reader.size)
    if (index := _INDICES.pop(key, None)) is None:
        index = _index(reader)
    _INDICES[key] = index
    while len(_INDICES) > _MAX_INDICES:
        _INDICES.popitem(last=False)
    return index


def _index(reader: ShardBytes, is_dotted: bool = False) -> _Index:
    """Index a shard by its headers: do the files of each sample lie beside each other, as they should?"""
    begins, seen = array("q"), set[str]()
    whole = apart = False
    for sample in samples(reader, is_dotted=is_dotted):
        if not is_dotted and _are_several(sample):
            return _index(reader, is_dotted=True)
        key = sample[0].key_of(is_dotted)
        if key in seen:
            return _Index(begins, _joined(reader, is_dotted), is_dotted)
        seen.add(key)
        begins.append(sample[0].begin)
        has_picture, has_text = _holds(sample)
        whole, apart = whole or (has_picture and has_text), apart or (has_text and not has_picture)
    if apart and not whole and len(begins) <= _MAX_JOINED:
        return _Index(begins, _by_folders(reader, is_dotted), is_dotted)
    return _Index(begins, is_dotted=is_dotted)


def _holds(sample: tuple[Member, ...]) -> tuple[bool, bool]:
    """Return whether a sample has a picture, and whether it has a caption file."""
    endings = {member.ending for member in sample}
    return not endings.isdisjoint(PICTURES), not endings.isdisjoint(ENDINGS)


def _by_folders(reader: ShardBytes, is_dotted: bool) -> tuple[tuple[Member, ...], ...]:
    """Return the samples of a packed folder, whose captions lie in a folder or have a name of their own."""
    groups = list(samples(reader, is_dotted=is_dotted))
    files = CaptionFiles(member.name for group in groups for member in group)
    members_by_name = {member.name: member for group in groups for member in group}
    captions = {
        group[0].name: tuple(members_by_name[name] for name in files.of(group[0].name))
        for group in groups
        if _holds(group)[0]
    }
    used = {member.name for those in captions.values() for member in those}
    return tuple(
        (*group, *captions.get(group[0].name, ())) for group in groups if not all(each.name in used for each in group)
    )


def _are_several(sample: tuple[Member, ...]) -> bool:
    """Return whether files of one key are several samples: each picture but the last has a caption of its own name."""
    pictures = [member.stem for member in sample if member.ending in PICTURES]
    told = {member.stem for member in sample if member.ending in ENDINGS}
    return len(pictures) > 1 and sample[0].key not in pictures and told.issuperset(pictures[:-1])


def _joined(reader: ShardBytes, is_dotted: bool) -> tuple[tuple[Member, ...], ...]:
    """Return the samples of a shard that was packed in another order, each with all its files, in order of their first.

    Raises:
        UnreadableError: The shard has too many samples to hold them all.
    """
    groups: dict[str, list[Member]] = {}
    number = 0
    for sample in samples(reader, is_dotted=is_dotted):
        number += len(sample)
        if number > _MAX_JOINED:
            raise UnreadableError(
                "bad_file",
                f"files of one sample do not lie beside each other, and there are more than {_MAX_JOINED:,} of them; "
                "pack the shard with tar --sort=name",
            )
        groups.setdefault(sample[0].key_of(is_dotted), []).extend(sample)
    return tuple(tuple(_bounded(group)) for group in groups.values())


def _bounded(group: list[Member]) -> list[Member]:
    if len(group) <= _MAX_MEMBERS:
        return group
    return [*group[: _MAX_MEMBERS - 1], _too_many(group[_MAX_MEMBERS - 1])]


def _too_many(member: Member) -> Member:
    problem = UnreadableError("unsafe_member", f"more than {_MAX_MEMBERS} files of one name")
    return Member(member.name, member.begin, 0, 0, problem)


def _picture_of(sample: tuple[Member, ...], reader: ShardBytes) -> Member:
    for member in sample:
        if member.problem is not None:
            raise member.problem
        if member.ending in _PICKLES:
            raise UnreadableError("unsafe_member", f"{member.name}: a pickle, which is never opened")
    pictures = [member for member in sample if member.ending in PICTURES]
    if len(pictures) > 1:  # x.png beside x.mask.png
        pictures = [member for member in pictures if member.name == f"{member.key}.{member.name.rpartition('.')[2]}"]
    if len(pictures) > 1:  # x.jpg beside its mask, x.png
        masks = [each for each in pictures if is_grey_or_palette(reader.pread(each.offset, PNG_HEADER_BYTES))]
        pictures = [each for each in pictures if each not in masks]
    if len(pictures) != 1:
        names = ", ".join(member.name for member in sample[:5])
        is_table = not pictures and any(member.ending in _TABLES for member in sample)
        advice = "; a folder that was packed with its table must be unpacked first" if is_table else ""
        raise UnreadableError("bad_row", f"expected one picture, found {len(pictures)} among {names}{advice}")
    return pictures[0]


def _content(member: Member, reader: ShardBytes, limit: int) -> bytes:
    if member.num_bytes > limit:
        raise UnreadableError("file_too_large", f"{member.name}: {member.num_bytes:,} bytes, more than {limit:,}")
    return reader.pread(member.offset, member.num_bytes)
