"""Names of pictures and folders that stand for prompts: ids with other zeros, or the prompts themselves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from infinity.data.sources.folders.file_names import folded
from infinity.evaluation.pictures.store import PictureError
from infinity.evaluation.pictures.table import prompt_key
from infinity.evaluation.prompts.benchmark import PictureFolder, PromptItem

ENDING = r"\.[A-Za-z0-9]+"
_LEADING_NUMBER = re.compile(r"^\d+[-_. ]+")
_LEAST_LETTERS = 6
"""Prompts with fewer letters and digits are not told by these alone."""


class OwnNames:
    """Ids by the names that stand for them: with other zeros, in any of Unicode's forms, in capitals.

    Args:
        ids: Ids of all items.
    """

    def __init__(self, ids: Collection[str]) -> None:
        self._ids = ids
        numbers = Counter(map(folded, ids))
        self._folded = {folded(each): each for each in ids if numbers[folded(each)] == 1}
        self._below: dict[str, list[str]] = {}
        for each in self._folded:
            category, slash, last = each.rpartition("/")
            if slash:
                self._below.setdefault(category, []).append(last)

    def match(self, name: str) -> str:
        """Return the id that a name stands for; the name itself where it stands for none."""
        full = padded(name, self._ids)
        if full in self._ids:
            return full
        category, _, last = folded(full).rpartition("/")
        plain = padded(last, self._below.get(category, ()))
        return self._folded.get(f"{category}/{plain}" if category else plain, full)


def last_parts(ids: Iterable[str]) -> dict[str, str]:
    """Return ids by their number, such as 00007 of Food/00007, where all categories share one numbering."""
    split = [(item_id.rpartition("/")[2], item_id) for item_id in ids if "/" in item_id]
    found = dict(split)
    return found if len(found) == len(split) else {}


def by_prompt(items: Sequence[PromptItem]) -> dict[str, str]:
    """Return ids by prompts that only one item has, as they are and with underscores for blanks and slashes."""
    keys = [(each, item.id) for item in items for each in {*_names_of(item.prompt)}]
    numbers = Counter(key for key, _ in keys)
    return {key: item_id for key, item_id in keys if numbers[key] == 1}


def _names_of(prompt: str) -> tuple[str, ...]:
    """Return a prompt as it may stand in the name of a file; of its letters and digits alone where there are enough."""
    key = prompt_key(prompt)
    flat = key.replace("/", "_")  # no file's name can hold a slash
    bare = _bare(key)
    names = (key, key.replace(" ", "_"), flat, flat.replace(" ", "_"))
    return (*names, bare) if len(bare) >= _LEAST_LETTERS else names


def by_words(name: str, prompts: Mapping[str, str]) -> str:
    """Return the id of the prompt that a name spells, perhaps behind a number and without punctuation; else nothing."""
    key = prompt_key(name)
    forms = (key, _bare(key), _bare(_LEADING_NUMBER.sub("", key)))
    return next((prompts[form] for form in forms if form in prompts), "")


def _bare(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def padded(name: str, ids: Collection[str], beyond: int = 0) -> str:
    """Return the number of a folder or file with the zeros that the benchmark's ids have: 7 is 00007, and 0007 is 7.

    Args:
        ids: All ids of the benchmark; others than numbers of one length are left alone.
        beyond: How far a number may lie beyond the last id.

    Example:
        >>> padded("7", ["00006", "00007"]), padded("8", ["00006", "00007"]), padded("7", ["a7"])
        ('00007', '8', '7')
    """
    if name in ids or not ids or not (name.isascii() and name.isdigit()):
        return name
    last = max(ids, key=_in_order)
    longer = name.zfill(len(last))
    for other in (longer, name.lstrip("0") or "0"):
        if other in ids:
            return other
    is_next = last.isascii() and last.isdigit() and int(last) < int(name) <= int(last) + beyond
    return longer if is_next else name


def _in_order(number: str) -> tuple[int, str]:
    """Return a key that sorts numbers by their value, whether they are filled up with zeros or not."""
    return len(number), number


def check_numbering(folder: PictureFolder, named: Collection[str], ids: Collection[str]) -> None:
    """Refuse pictures that are numbered from 1, or from 0 where the prompts begin with 1: all would be off by one."""
    if not ids or not all(name.isascii() and name.isdigit() for name in ids):
        return
    first, last = min(ids, key=_in_order), max(ids, key=_in_order)
    numbers = {int(name) for name in named if name.isascii() and name.isdigit()}
    if int(first) not in numbers and int(last) + 1 in numbers:
        found = f"found none of that number, but {int(last) + 1:0{len(last)}d}, which is beyond the last prompt"
    elif int(last) not in numbers and int(first) - 1 in numbers:
        found = f"found {int(first) - 1:0{len(first)}d}, which is before the first prompt, and not {last}"
    else:
        return
    raise PictureError(
        f"{folder.uri}: expected pictures numbered from {first}, {found}; number them from {int(first)}, or give a "
        "table of prompt and file"
    )


def check_folders(folder: PictureFolder, paths: Iterable[str], ids: Collection[str]) -> None:
    """Refuse numbered folders of which each holds a picture of every prompt: they are samples, and no prompts."""
    pairs = [match.groups() for path in paths if (match := re.fullmatch(rf"(\d+)/(\d+){ENDING}", path))]
    tops = {padded(top, ids) for top, _ in pairs}
    inner = {(padded(top, ids), padded(number, ids)) for top, number in pairs}
    is_each = len(ids) > 1 and len(inner) == len(tops) * len(ids) and {number for _, number in inner} == {*ids}
    if is_each and len(tops) > 1 and not {*ids} <= tops:
        raise PictureError(
            f"{folder.uri}: expected <prompt>/<picture>, found {len(tops)} folders (first: {min(tops)}) with a picture "
            "of each prompt; name the files <prompt>_<picture>, or give a table of prompt and file"
        )
