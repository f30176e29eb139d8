"""Lists of prompts as benchmarks publish them: text with one prompt per line, JSON lines, or one JSON list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from infinity.config import Config, digest_of, parse_json
from infinity.evaluation.pictures.table import has_pictures, prompt_key, read_table
from infinity.evaluation.prompts.benchmark import PromptItem, spread
from infinity.evaluation.score import slug
from infinity.storage.lines import json_lines, text_lines
from infinity.storage.pinned import PinnedFile


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptList(Config):
    """A file of prompts.

    Attributes:
        file: ``.txt`` with one prompt per line, ``.jsonl`` with an object per line, or ``.json`` with a list. An object
            has ``prompt`` and perhaps ``id`` and ``category``. In a list or in JSON lines, a text alone is a prompt
            too. A table of prompt and picture file is read as the list of its prompts, each once.
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
        form = {".json": _list, ".jsonl": json_lines}.get(PurePosixPath(uri).suffix, _texts)
        data = self.file.read()
        entries = list(_table(uri) if has_pictures(data, uri) else form(data, uri))
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
        lists: The files.
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


def _table(uri: str) -> Iterator[tuple[str, object]]:
    """Yield the prompts of a table of prompt and picture, each once."""
    seen: dict[str, str] = {}
    for row in read_table(uri):
        seen.setdefault(prompt_key(row.prompt), row.prompt)
    yield from ((uri, prompt) for prompt in seen.values())


def _texts(data: bytes, uri: str) -> Iterator[tuple[str, object]]:
    if data.strip():
        for where, line in text_lines(data, uri):
            if not line.strip():
                raise ValueError(f"{where}: expected a prompt, found an empty line")
            yield where, line


def _list(data: bytes, uri: str) -> Iterator[tuple[str, object]]:
    found = parse_json(data, where=uri)
    if not isinstance(found, list):
        raise ValueError(f"{uri}: expected a list of prompts, found {type(found).__name__}")
    for number, entry in enumerate(found, start=1):
        yield f"{uri}, entry {number}", entry
