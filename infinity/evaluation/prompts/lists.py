"""Lists of prompts as benchmarks publish them: text with one prompt per line, JSON lines, or one JSON list."""

from __future__ import annotations

import codecs
import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infinity.config import Config, ConfigError, digest_of, parse_json
from infinity.evaluation.pictures.table import form_of, has_pictures, plain_names, prompt_key, prompt_rows, read_table
from infinity.evaluation.prompts.benchmark import PromptItem, spread
from infinity.evaluation.score import slug
from infinity.storage.lines import json_lines, text_lines
from infinity.storage.pinned import PinnedFile


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptList(Config):
    """A file of prompts.

    Attributes:
        file: ``.txt`` with one prompt per line, ``.jsonl`` with an object per line, or ``.json`` with a list, with one
            list in an object, or with objects or prompts by id. An object has ``prompt`` and perhaps ``id`` and
            ``category``. In a list or in JSON lines, a text alone is a prompt too. A table (``.csv``, ``.tsv``,
            ``.parquet``) has the same columns; one of prompt and picture file is read as the list of its prompts, each
            once.
        category: Category of all prompts that state none, for which scores are reported too; None for no category.
    """

    file: PinnedFile
    category: str | None = None

    def read(self) -> tuple[PromptItem, ...]:
        """Return the prompts in the order of the file; a prompt without an id gets its number, five digits from 00000.

        Raises:
            ValueError: A broken line, an empty prompt, an id that is used twice, or no prompt at all.
            PinnedFileError: The download failed, or the checksum differs.
            StorageError: The file is missing.
        """
        uri = self.file.uri
        data = self.file.read()
        entries = list(_table(data, uri) if has_pictures(data, uri) else entries_of(data, uri))
        if not entries:
            raise ValueError(f"{uri}: expected prompts, found none")
        items: dict[str, PromptItem] = {}
        for number, (where, entry) in enumerate(entries):
            item = self._item(entry, number, where)
            if item.id in items:
                raise ValueError(f"{where}: the id {item.id!r} is there twice")
            items[item.id] = item
        return tuple(items.values())

    def _item(self, entry: object, number: int, where: str) -> PromptItem:
        data: Mapping[str, Any] = {"prompt": entry} if isinstance(entry, str) else entry  # type: ignore[assignment]
        if not isinstance(data, Mapping):
            raise ValueError(f'{where}: expected {{"prompt": ...}} or a text, found {str(entry)[:80]!r}')
        prompt, name = data.get("prompt"), data.get("id", f"{number:05d}")
        category = data.get("category", self.category)
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"{where}: expected a prompt, found {str(entry)[:80]!r}")
        if not isinstance(name, str | int) or not str(name).strip() or not isinstance(category, str | None):
            raise ValueError(f"{where}: expected texts as id and category, found {str(entry)[:80]!r}")
        # Files of several categories use the same numbers, so the category is part of the id.
        full = str(name) if category is None else f"{category}/{name}"
        return PromptItem(id=full, prompt=prompt.strip(), about={} if category is None else {"category": category})


def read_lists(lists: Sequence[PromptList], most: int | None) -> tuple[PromptItem, ...]:
    """Return the prompts of several files, one file after the other.

    Args:
        most: Largest number of prompts per category, spread over it; None takes all.

    Raises:
        ValueError: No file, an id that is used twice, categories whose metrics would have one name, or an error of
            `PromptList.read`.
        StorageError: A file is missing.
    """
    if not lists:
        raise ValueError("expected at least one list of prompts, got none")
    by_category: dict[str, dict[str, PromptItem]] = {}
    for one in lists:
        for item in one.read():
            group = by_category.setdefault(category_of(item), {})
            if item.id in group:
                raise ValueError(f"{one.file.uri}: the id {item.id!r} is in another list too; give lists categories")
            group[item.id] = item
    words = Counter(slug(category) for category in by_category if category)
    if clash := sorted(word for word, number in words.items() if number > 1 or word == "overall"):
        raise ValueError(f"expected categories with names of their own, got {clash[0]!r} twice or as a category")
    return tuple(item for group in by_category.values() for item in spread(list(group.values()), most))


def category_of(item: PromptItem) -> str:
    """Return the item's category; empty for none."""
    return str(item.about.get("category", ""))


def describe(items: Sequence[PromptItem]) -> str:
    """Return number and digest of prompts, for the protocol of a score."""
    return f"{len(items)} prompts {digest_of([[item.id, item.prompt] for item in items])}"


def entries_of(data: bytes, uri: str) -> Iterator[tuple[str, object]]:
    """Yield the texts or objects of a list of prompts in any of its forms, each behind its place.

    Raises:
        ValueError: The file has another form than its ending says, or a broken line.
    """
    forms = {".json": _list, ".jsonl": json_lines, **dict.fromkeys((".csv", ".tsv", ".parquet"), prompt_rows)}
    for where, entry in forms.get(form_of(uri), _texts)(data, uri):
        yield where, plain_names(entry, where)


def _table(data: bytes, uri: str) -> Iterator[tuple[str, object]]:
    """Yield the prompts of a table of prompt and picture, each once."""
    seen: dict[str, str] = {}
    for row in read_table(uri, data):
        seen.setdefault(prompt_key(row.prompt), row.prompt)
    yield from ((uri, prompt) for prompt in seen.values())


def _texts(data: bytes, uri: str) -> Iterator[tuple[str, object]]:
    if data.strip():
        _check_plain(data, uri)
        blank = ""
        for where, line in text_lines(data, uri):
            if not line.strip():
                blank = blank or where
            elif blank:  # the number of a line is the name of its prompt
                raise ValueError(f"{blank}: expected a prompt, found an empty line before others; take it out")
            else:
                yield where, line


def _check_plain(data: bytes, uri: str) -> None:
    """Refuse JSON in a file whose name says plain lines: each line would be drawn as a prompt.

    Raises:
        ValueError: The first line is an object or a list of JSON, or begins one.
    """
    first = data.removeprefix(codecs.BOM_UTF8).lstrip().partition(b"\n")[0].strip()
    is_json = first in (b"[", b"{")
    if first[:1] in (b"[", b"{") and not is_json:
        with contextlib.suppress(ConfigError):
            is_json = isinstance(parse_json(first, where=uri), list | dict)
    if is_json:
        raise ValueError(
            f"{uri}: expected one prompt per line, found JSON; name the file .jsonl (one per line) or .json (a list)"
        )


def _list(data: bytes, uri: str) -> Iterator[tuple[str, object]]:
    found = parse_json(data, where=uri)
    if isinstance(found, Mapping):
        found = _inside(found)
    if not isinstance(found, list):
        raise ValueError(
            f"{uri}: expected a list of prompts, an object with one such list, or objects with a prompt by id, found "
            f"{type(found).__name__}"
        )
    for number, entry in enumerate(found, start=1):
        yield f"{uri}, entry {number}", entry


def _inside(found: Mapping[str, Any]) -> object:
    """Return the list in an object: the only one (CVTG-2K), or the objects or prompts by their ids (GenAI-Bench)."""
    if found and all(isinstance(value, Mapping) for value in found.values()):
        return [{"id": name, **value} for name, value in found.items()]
    if found and all(isinstance(value, str) and any(map(str.isdigit, name)) for name, value in found.items()):
        return [{"id": name, "prompt": value} for name, value in found.items()]
    lists = [value for value in found.values() if isinstance(value, list)]
    return lists[0] if len(lists) == 1 else found
