"""Pictures that must not be in a data set any more, named by checksum, perceptual hash or origin."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from jaxtyping import UInt64

from infinity import storage
from infinity.config import Config, ConfigError
from infinity.data.sources.checking import EXAMPLES, Tally
from infinity.ranges import Range

TAKEN_DOWN = "taken_down"
"""The reason that is counted."""

_KINDS = {"sha256": "sha256", "phash": "phash", "url": "urls", "domain": "domains"}
"""Fields of a list by the word that begins a line."""

_HEX_64 = re.compile(r"[0-9a-f]{64}")
_HEX_16 = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TakedownList(Config):
    """What must go; a picture goes if any of these names it, and with it every row with the same pixels.

    Attributes:
        sha256: Checksums of the picture's file as found, of its file in the shard, or of its pixels; 64 hexadecimal
            digits each.
        phash: Perceptual hashes, 16 hexadecimal digits each.
        phash_distance: Most bits in which a picture's hash may differ from one of ``phash``.
        urls: Addresses, as the source gave them.
        domains: Host names; their sub-domains go too.
        digests: Entries of ``sha256`` and ``urls`` of which nothing must be left: sha256 over each, so that the list
            names no picture and no address any more, and still keeps them out.
    """

    later: ClassVar[frozenset[str]] = frozenset({"digests"})

    sha256: tuple[str, ...] = ()
    phash: tuple[str, ...] = ()
    phash_distance: Annotated[int, Range(0, 64)] = 0
    urls: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the list as JSON, without fields of later versions at their defaults: older lists keep their bytes."""
        return self.identity()

    def hidden(self) -> TakedownList:
        """Return the same list without a checksum or an address of any picture."""
        entries = [("sha256", value) for value in self.sha256] + [("url", value) for value in self.urls]
        digests = {*self.digests, *(digest_of_entry(kind, value) for kind, value in entries)}
        return self.replace(sha256=(), urls=(), digests=tuple(sorted(digests)))

    def __post_init__(self) -> None:
        for name, pattern, digits in (("sha256", _HEX_64, 64), ("phash", _HEX_16, 16), ("digests", _HEX_64, 64)):
            if bad := [value for value in getattr(self, name) if not pattern.fullmatch(value)]:
                raise ValueError(f"TakedownList.{name}: expected {digits} hexadecimal digits each, got {bad[0]!r}")
        if bad := [value for value in self.domains if not value or "/" in value]:
            raise ValueError(f"TakedownList.domains: expected host names, got {bad[0]!r}")

    def __bool__(self) -> bool:
        return bool(self.sha256 or self.phash or self.urls or self.domains or self.digests)

    def __or__(self, other: TakedownList) -> TakedownList:
        """Return the union of both lists; hashes are compared with the larger distance."""
        return TakedownList(
            sha256=tuple(sorted({*self.sha256, *other.sha256})),
            phash=tuple(sorted({*self.phash, *other.phash})),
            phash_distance=max(self.phash_distance, other.phash_distance),
            urls=tuple(sorted({*self.urls, *other.urls})),
            domains=tuple(sorted({*self.domains, *other.domains})),
            digests=tuple(sorted({*self.digests, *other.digests})),
        )


def digest_of_entry(kind: str, value: str) -> str:
    """Return the digest that replaces an entry of a takedown list, so that the list does not name it any more."""
    return hashlib.sha256(f"takedown {kind} {value}".encode("utf-8", "backslashreplace")).hexdigest()


def load_takedown(uri: str) -> TakedownList:
    """Return a list from a file: JSON with the fields of TakedownList, or lines with one entry each.

    A line is ``sha256:...``, ``phash:...``, ``url:...`` or ``domain:...``; empty ones and those with # are skipped.

    Raises:
        ConfigError: A line or a field that is none of these.
        StorageError: The file cannot be read.
    """
    text = storage.read_text(uri)
    if text.lstrip().startswith("{"):
        return TakedownList.parse(text, where=uri)
    found: dict[str, list[str]] = {name: [] for name in _KINDS.values()}
    for number, line in enumerate(text.split("\n"), start=1):  # addresses may hold what splitlines splits at
        kind, colon, value = line.strip().partition(":")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not colon or kind not in _KINDS:
            raise ConfigError(f"{uri} line {number}: expected one of {', '.join(_KINDS)} and a colon, got {line!r}")
        found[_KINDS[kind]].append(value.strip() if kind == "url" else value.strip().lower())
    return TakedownList.from_json(found, where=uri)


def listed_pixels(facts: pa.Table, takedown: TakedownList) -> frozenset[bytes]:
    """Return the checksums of pixels of all rows that the list names itself."""
    pixels, places = facts["pixels"].to_pylist(), np.flatnonzero([bool(each) for each in _found(facts, takedown)])
    return frozenset(pixels[place] for place in places if pixels[place] is not None)


def names_any(facts: pa.Table, takedown: TakedownList) -> bool:
    """Return whether the list itself names a row, a readable one or not."""
    return any(_found(facts, takedown))


def named_rows(facts: pa.Table, takedown: TakedownList) -> list[bool]:
    """Return for each row, a readable one or not, whether the list itself names it."""
    return [bool(detail) for detail in _found(facts, takedown)]


def _found(facts: pa.Table, takedown: TakedownList) -> np.ndarray:
    """Return what each row is listed by, in words; empty for rows that the list does not name."""
    details = np.full(facts.num_rows, "", dtype=object)
    for title, test in _tests(facts, takedown):
        for index in np.flatnonzero(details == ""):
            if found := test(int(index)):
                details[index] = f"{title} {found}"
    return details


def entries_without_rows(tables: Iterable[pa.Table], takedown: TakedownList) -> tuple[str, ...]:
    """Return the entries of a list that name none of a version's rows, as lines of a list.

    Args:
        tables: Columns ``content``, ``pixels``, ``phash`` and ``url`` of FACTS, and ``sha256``, of the files in shards.
        takedown: The list; entries of ``digests`` are left out, since they name nothing to people.
    """
    left = {kind: dict.fromkeys(getattr(takedown, name)) for kind, name in _KINDS.items()}
    domains = {_host(name): name for name in takedown.domains}
    for facts in tables:
        sums = (value for name in ("content", "pixels") for value in facts[name].to_pylist() if value is not None)
        urls = [url for url in facts["url"].to_pylist() if url is not None]
        found = {"sha256": {*(value.hex() for value in sums), *facts["sha256"].to_pylist()}, "url": set(urls)}
        found["domain"] = {name for url in urls for name in _domains(url, domains)} if left["domain"] else set()
        hashes = np.array([value for value in facts["phash"].to_pylist() if value is not None], np.uint64)
        near = (value for value in left["phash"] if _any_near(hashes, int(value, 16), takedown.phash_distance))
        found["phash"] = set(near)
        left = {kind: {value: None for value in values if value not in found[kind]} for kind, values in left.items()}
    return tuple(f"{kind}:{value}" for kind, values in left.items() for value in values)


def _any_near(hashes: UInt64[np.ndarray, " n"], value: int, distance: int) -> bool:
    return bool((np.bitwise_count(hashes ^ np.uint64(value)) <= distance).any())


def split_taken_down(
    facts: pa.Table, takedown: TakedownList, elsewhere: frozenset[bytes] = frozenset()
) -> tuple[pa.Table, Tally]:
    """Return the facts that stay, and the count of those that go; unreadable rows stay, they are counted elsewhere.

    Args:
        facts: Columns ``name``, ``content``, ``pixels``, ``phash`` and ``url`` of FACTS.
        takedown: List of what must go.
        elsewhere: Checksums of pixels of listed rows of other tables; rows with the same pixels go too.
    """
    if not takedown or not facts.num_rows:
        return facts, Tally.of()
    details = _found(facts, takedown)
    gone = details != ""
    pixels = facts["pixels"].to_pylist()
    named = elsewhere | {pixels[index] for index in np.flatnonzero(gone) if pixels[index] is not None}
    same = np.array([value in named for value in pixels], bool) & ~gone
    details[same] = "same pixels as one of these"
    gone |= same
    places = np.flatnonzero(gone)
    names = facts["name"].take(pa.array(places[:EXAMPLES], pa.int64())).to_pylist()
    tally = Tally(
        read=len(places),
        dropped={TAKEN_DOWN: len(places)} if len(places) else {},
        unreadable={},
        examples={TAKEN_DOWN: tuple(f"{n}: {d}" for n, d in zip(names, details[places[:EXAMPLES]], strict=True))}
        if len(places)
        else {},
    )
    return facts.filter(pa.array(~gone)), tally


def _tests(facts: pa.Table, takedown: TakedownList) -> list[tuple[str, Callable[[int], str]]]:
    """Return the name and the test of each kind of entry; a test gives what was found, or an empty text."""
    tests: list[tuple[str, Callable[[int], str]]] = []
    if takedown.sha256:
        wanted = {bytes.fromhex(value) for value in takedown.sha256}
        columns = [facts["content"].to_pylist(), facts["pixels"].to_pylist()]
        tests.append(("sha256", lambda i: next((c[i].hex() for c in columns if c[i] in wanted), "")))
    if takedown.digests:
        hidden = set(takedown.digests)
        contents, pixels, places = (facts[name].to_pylist() for name in ("content", "pixels", "url"))

        def entries(i: int) -> list[tuple[str, str]]:
            sums = [("sha256", value.hex()) for value in (contents[i], pixels[i]) if value is not None]
            return [*sums, *([("url", places[i])] if places[i] else [])]

        tests.append(("listed", lambda i: " " * any(digest_of_entry(*entry) in hidden for entry in entries(i))))
    if takedown.phash:
        hashes = np.array([int(value, 16) for value in takedown.phash], np.uint64)
        found = facts["phash"].to_pylist()
        tests.append(("phash", lambda i: "" if found[i] is None else _near(found[i], hashes, takedown.phash_distance)))
    if takedown.urls or takedown.domains:
        urls, addresses = facts["url"].to_pylist(), set(takedown.urls)
        domains = {_host(name): name for name in takedown.domains}
        tests.append(("url", lambda i: urls[i] if urls[i] in addresses else ""))
        tests.append(("domain", lambda i: next(iter(_domains(urls[i] or "", domains)), "")))
    return tests


def _near(value: int, hashes: UInt64[np.ndarray, " n"], distance: int) -> str:
    bits = np.bitwise_count(hashes ^ np.uint64(value))
    return f"{int(hashes[int(bits.argmin())]):016x} in {int(bits.min())} bits" if bits.min() <= distance else ""


def _domains(url: str, domains: Mapping[str, str]) -> list[str]:
    """Return the listed domains that the address lies in, the longest first.

    Args:
        domains: Listed domains by what ``_host`` makes of them.
    """
    try:
        host = _host(urlsplit(url).hostname or "")
    except ValueError:
        return []  # not an address, so that no domain can list it
    labels = host.split(".")
    return [domains[name] for i in range(len(labels)) if (name := ".".join(labels[i:])) in domains]


def _host(name: str) -> str:
    """Return the one spelling of a host's name: in small letters and ASCII, without a dot at its end."""
    plain = name.strip().rstrip(".").lower()
    try:
        return plain if plain.isascii() else plain.encode("idna").decode()
    except UnicodeError:
        return plain
