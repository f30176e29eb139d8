"""Pictures that were drawn elsewhere, matched to a benchmark's prompts: folders in published layouts, or a table."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from infinity import storage
from infinity.config import parse_json
from infinity.evaluation.pictures.files import content_digest, is_picture
from infinity.evaluation.pictures.store import PictureError
from infinity.evaluation.pictures.table import prompt_key, read_table
from infinity.evaluation.prompts.benchmark import MissingPicture, PictureFolder, PicturePlace, PromptItem, PromptSample
from infinity.evaluation.prompts.names import (
    ENDING,
    OwnNames,
    by_prompt,
    by_words,
    check_folders,
    check_numbering,
    last_parts,
    padded,
)

logger = logging.getLogger(__name__)

METADATA_FILE = "metadata.jsonl"
"""File in every folder of GenEval's layout that says which prompt its pictures belong to."""

Layout = Callable[[str], list[tuple[str, int]]]
"""Function from a path to the items that the file may be a picture of, each with the picture's number."""

Same = Callable[[PromptItem, Mapping[str, Any]], bool]
"""Function that says whether a folder's metadata ask for the same as an item, apart from the prompt."""


def in_folders(path: str) -> list[tuple[str, int]]:
    """Match ``<id>/samples/<number>.png``: files that begin with digits, as in GenEval's scorer; any picture ending."""
    match = re.fullmatch(rf"(.+)/samples/(\d+)[^/]*{ENDING}", path)
    return [(match[1], int(match[2]))] if match else []


def in_folders_or_flat(path: str, descriptions: str = "short") -> list[tuple[str, int]]:
    """Match ``<id>_<number>.png``, ``<id>.png`` and ``<id>/<number>.png`` too; an id may itself end in a number.

    Of TIIF-Bench's folders, ``<type>/<model>/short_description/<number>.png`` is prompt ``<type>/<number>``.

    Args:
        path: Path below the folder of the pictures.
        descriptions: Prompts of TIIF-Bench that are scored: "short" or "long".
    """
    if found := in_folders(path):
        return found
    if tiif := re.fullmatch(rf"([^/]+)/(?:[^/]+/)?{descriptions}_description/(\d+){ENDING}", path):
        return [(f"{tiif[1]}/{int(tiif[2])}", 0)]
    match = re.fullmatch(rf"((.+)_(\d+)|(.+)/(\d+)|.+){ENDING}", path)
    if match is None:
        return []
    pairs = [(match[2], match[3]), (match[4], match[5])]
    return [(match[1], 0), *((name, int(number)) for name, number in pairs if name)]


def in_folders_or_numbered(path: str) -> list[tuple[str, int]]:
    """Match as ``in_folders_or_flat``, but no file whose name is an id alone, as where pictures are numbered."""
    return in_folders(path) or in_folders_or_flat(path)[1:]


def in_folders_or_long(path: str) -> list[tuple[str, int]]:
    """Match as ``in_folders_or_flat``, and ``long_description`` in TIIF-Bench's folders."""
    return in_folders_or_flat(path, "long")


def locate(
    folder: PictureFolder,
    items: Sequence[PromptItem],
    number: int,
    *,
    layout: Layout = in_folders,
    most: int | None = None,
    known: Sequence[PromptItem] = (),
    same: Same = lambda item, metadata: True,
) -> list[PromptSample]:
    """Return the items with their pictures, in the order of the pictures' numbers.

    Where a folder has a ``metadata.jsonl``, its prompt decides which item the pictures belong to, not the folder's
    name. A file or folder that no id names may be named by its prompt, as T2I-CompBench's files are. A folder that
    holds all others, as archives have, is passed over.

    Args:
        items: Items whose pictures are wanted.
        number: Number of pictures that an item should have; absent ones are `MissingPicture`.
        most: Largest number of pictures per item, further ones are ignored; None takes all.
        known: All prompts of the benchmark, where ``items`` are a part of them.
        same: Function that says whether a folder's metadata ask for the same as an item.

    Raises:
        PictureError: Two files or folders claim the same picture or prompt, or metadata match no prompt.
    """
    if folder.is_table:
        return _listed(folder, items, number, most)
    files = folder.files()
    pictures = {path: info for path, info in files.items() if is_picture(path)}
    renamed = _by_metadata(folder, files, known or items, same)
    ids = {item.id: item.id for item in known or items}
    if not renamed:
        check_folders(folder, pictures, ids)
    by_item, unmatched = _matched(folder, sorted(pictures), layout, by_prompt(known or items) | ids, renamed)
    if not by_item and (inner := only_folder(folder, pictures, ids)) is not None:
        return locate(inner, items, number, layout=layout, most=most, known=known, same=same)
    # GenEval's generator writes a grid.png beside the samples.
    folders = {path.rpartition("/")[0] for path in unmatched}
    with_samples = {name for name in folders if by_item.get(renamed.get(name, name))}
    stray = [path for path in unmatched if path.rpartition("/")[0] not in with_samples]
    warn_of_unmatched(folder, stray, len(pictures))
    if not renamed:
        for own in (ids.keys(), last_parts(ids).keys()):
            numbers = {padded(name, own, 1) for path in pictures for name, _ in layout(path)}
            check_numbering(folder, numbers, own)
    _warn_of_further(folder, map(len, by_item.values()), most)
    samples = []
    for item in items:
        paths = [path for _, path in sorted(by_item.get(item.id, {}).items())][:most]
        samples.append(with_missing(folder, item, [place_of(folder, pictures[path]) for path in paths], number))
    return samples


def only_folder(folder: PictureFolder, pictures: Iterable[str], ids: Iterable[str]) -> PictureFolder | None:
    """Return the one folder in which all pictures lie; None where they lie in several, or beside each other.

    A folder of a category, of a prompt, or of TIIF-Bench's short or long prompts is none: its name says what is drawn.
    """
    tops = {path.partition("/")[0] if "/" in path else "" for path in pictures}
    (top,) = tops if len(tops) == 1 else ("",)
    has_meaning = not top or top.endswith("_description") or top in {part for name in ids for part in name.split("/")}
    return None if has_meaning else folder.replace(uri=storage.join(folder.uri, top))


def _matched(
    folder: PictureFolder, paths: Sequence[str], layout: Layout, ids: Mapping[str, str], renamed: Mapping[str, str]
) -> tuple[dict[str, dict[int, str]], list[str]]:
    """Return the paths of each item's pictures by their number, and the paths that belong to no item.

    Args:
        ids: Ids of the items, by id and by the prompts that only one of them has.
        renamed: Ids of the items by folder, where metadata say so.
    """
    by_item: dict[str, dict[int, str]] = {}
    unmatched: list[str] = []
    own_ids = frozenset(ids.values())
    own_names = OwnNames(own_ids)
    prompts = {prompt: item_id for prompt, item_id in ids.items() if prompt not in own_ids}
    numbers = last_parts(own_ids)
    for path in paths:
        places = [(renamed.get(name) or own_names.match(name), place) for name, place in layout(path)]
        named = [(by_words(name.rpartition("/")[2], prompts), place) for name, place in layout(path)]
        numbered = [(numbers.get(padded(name, numbers), ""), place) for name, place in layout(path)]
        own = next((pair for pair in (*places, *named, *numbered) if pair[0] in own_ids), None)
        if own is None:
            unmatched.append(path)
            continue
        item_id, place = own
        taken = by_item.setdefault(item_id, {}).setdefault(place, path)
        if taken != path:
            raise PictureError(
                f"{folder.uri}: expected one picture {place} of {item_id}, found {taken} and {path}; take one "
                "of them out"
            )
    return by_item, unmatched


def with_missing(
    folder: PictureFolder, item: PromptItem, found: Sequence[PicturePlace | MissingPicture], number: int
) -> PromptSample:
    """Return an item with its pictures; those that are absent from ``number`` pictures are `MissingPicture`."""
    places = (*found, *[MissingPicture("no such file")] * (number - len(found)))
    return PromptSample(item=item, drawn=item.prompt, places=places, size_px=folder.size_px)


def place_of(folder: PictureFolder, info: storage.FileInfo) -> PicturePlace:
    """Return a file of a folder as the location of a picture."""
    name = info.uri[len(folder.uri.rstrip("/")) + 1 :]
    return PicturePlace(info.uri, name, content_digest(info))


def _by_metadata(
    folder: PictureFolder, files: Iterable[str], items: Sequence[PromptItem], same: Same
) -> dict[str, str]:
    """Return, by name of a folder with metadata, the id of the item that its metadata ask for."""
    by_prompt: dict[str, list[PromptItem]] = {}
    for item in items:
        by_prompt.setdefault(prompt_key(item.prompt), []).append(item)
    claimed: dict[str, str] = {}
    renamed: dict[str, str] = {}
    named = [path.removesuffix(f"/{METADATA_FILE}") for path in files if path.endswith(f"/{METADATA_FILE}")]
    wanted = {name: _read_metadata(folder, name) for name in sorted(named)}
    # First the folders whose own number asks for the same, so that equal prompts keep their own folders.
    for own in (True, False):
        for name, metadata in wanted.items():
            if name in renamed:
                continue
            fits = [item.id for item in by_prompt.get(prompt_key(metadata["prompt"]), ()) if same(item, metadata)]
            free = [item_id for item_id in fits if item_id not in claimed and (item_id == name or not own)]
            if free:
                renamed[name], claimed[free[0]] = free[0], name
            elif not own:
                _refuse(folder, name, metadata["prompt"], [claimed[item_id] for item_id in fits])
    _check_unnamed(folder, files, {*wanted}, claimed)
    return renamed


def _check_unnamed(
    folder: PictureFolder, files: Iterable[str], named: Collection[str], claimed: Mapping[str, str]
) -> None:
    """Refuse a folder without metadata whose number is claimed by another folder's metadata."""
    plain = {path.split("/samples/")[0] for path in files if "/samples/" in path} - set(named)
    if clash := sorted(name for name in plain if claimed.get(padded(name, claimed), name) != name):
        number = padded(clash[0], claimed)
        raise PictureError(
            f"{folder.uri}: the folder {clash[0]} has no {METADATA_FILE}, and by that of the folder "
            f"{claimed[number]} prompt {number} is drawn there; add {METADATA_FILE} or take one of them out"
        )


def _refuse(folder: PictureFolder, name: str, prompt: str, others: Sequence[str]) -> None:
    where = storage.join(folder.uri, name, METADATA_FILE)
    if others:
        raise PictureError(
            f"{where}: its prompt {prompt!r} is that of the folder {others[0]} too; expected one folder per prompt, "
            "take one of them out"
        )
    raise PictureError(
        f"{where}: expected one of the benchmark's prompts with the same objects, found {prompt!r}; give the prompt "
        "file that these pictures were drawn for, or take the folder out"
    )


def _read_metadata(folder: PictureFolder, name: str) -> dict[str, Any]:
    where = storage.join(folder.uri, name, METADATA_FILE)
    try:
        data = parse_json(storage.read_bytes(where), where=where)
    except ValueError as error:
        raise PictureError(f"{where}: expected one JSON object with a prompt ({error}); mend or remove it") from error
    if not isinstance(data, dict) or not isinstance(data.get("prompt"), str):
        raise PictureError(
            f"{where}: expected one JSON object with a prompt, found {str(data)[:80]!r}; mend it or remove it"
        )
    return data


def warn_of_unmatched(folder: PictureFolder, unmatched: Sequence[str], number: int) -> None:
    """Warn of pictures that belong to no prompt, since their author may expect them to be scored."""
    if unmatched:
        logger.warning(
            "%s: %d of %d pictures belong to no prompt of the benchmark and are not scored (first: %s); name them as "
            "its layout does, or give a table of prompt and file",
            folder.uri, len(unmatched), number, unmatched[0],
        )  # fmt: skip


def _listed(folder: PictureFolder, items: Sequence[PromptItem], number: int, most: int | None) -> list[PromptSample]:
    """Return the items with the pictures that a table names, in the table's order.

    Items of one prompt get successive pictures where the table has enough for each, else the same ones.
    """
    by_prompt: dict[str, list[str]] = {}
    for row in read_table(folder.uri):
        by_prompt.setdefault(prompt_key(row.prompt), []).append(row.uri)
    keys = [prompt_key(item.prompt) for item in items]
    wanted = Counter(keys)
    _check_listed(folder, by_prompt, wanted)
    taken: Counter[str] = Counter()
    chosen = []
    for key in keys:
        uris = by_prompt.get(key, [])
        share = len(uris) // wanted[key] if len(uris) >= number * wanted[key] else 0
        first, taken[key] = taken[key] * share, taken[key] + 1
        chosen.append(uris[first : first + share] if share else uris)
    _warn_of_further(folder, [len(uris) for uris in chosen], most)
    return [
        with_missing(folder, item, [_listed_place(uri) for uri in uris[:most]], number)
        for item, uris in zip(items, chosen, strict=True)
    ]


def _check_listed(folder: PictureFolder, by_prompt: Mapping[str, Sequence[str]], prompts: Collection[str]) -> None:
    """Refuse a table without any prompt of the benchmark; warn of prompts that are not scored."""
    unmatched = [prompt for prompt in by_prompt if prompt not in prompts]
    if len(unmatched) == len(by_prompt):
        raise PictureError(
            f"{folder.uri}: none of its {len(by_prompt)} prompts is one of the benchmark's {len(prompts)} (first: "
            f"{unmatched[0]!r}); give the prompt list that these pictures were drawn for"
        )
    if unmatched:
        logger.warning(
            "%s: %d of %d prompts are not among the benchmark's and are not scored (first: %r)",
            folder.uri, len(unmatched), len(by_prompt), unmatched[0],
        )  # fmt: skip


def _warn_of_further(folder: PictureFolder, numbers: Iterable[int], most: int | None) -> None:
    """Warn of prompts with more pictures than are scored."""
    if most is not None and (more := sum(number > most for number in numbers)):
        logger.warning(
            "%s: %d prompts have more than %d pictures, of which the first are scored; set pictures_per_prompt to "
            "score more",
            folder.uri, more, most,
        )  # fmt: skip


def _listed_place(uri: str) -> PicturePlace | MissingPicture:
    if not storage.exists(uri):
        return MissingPicture(f"no such file: {uri}")
    return PicturePlace(uri, storage.name(uri), storage.sha256(uri))
