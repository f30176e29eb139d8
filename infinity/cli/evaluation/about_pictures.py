"""``infinity evaluate --pictures``: specs for pictures that another model drew, and messages on unscored ones."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infinity.jobs.evaluation.spec import EvaluateReport, EvaluateSpec

_PROMPTS_FROM_TABLE = (
    "clip_score", "image_reward", "hps", "hps3", "pick_score", "diversity", "cmmd", "fd_dinov2",
)  # fmt: skip
"""Benchmarks that score any prompt; a table of pictures gives their prompts too."""

_MOST_CHARACTERS = 200
"""Longest name of a model."""


def specs(spec: dict[str, Any], models: Sequence[str], pictures: str | None, name: str) -> Iterator[dict[str, Any]]:
    """Yield a spec for every model folder, or one for pictures that were drawn elsewhere.

    Args:
        spec: Settings of the evaluation, with None for benchmarks that are left out.
        pictures: Folder or table of pictures, or None.

    Raises:
        ValueError: Neither models nor pictures are given, or both, or a benchmark needs a model.
    """
    from infinity import storage
    from infinity.evaluation.pictures.table import is_table
    from infinity.generation.files.model_folder import of_run

    elsewhere = {key: part["pictures"] for key, part in spec.items() if isinstance(part, dict) and part.get("pictures")}
    if models:
        if pictures is not None:
            raise ValueError(
                "--pictures: expected model folders or pictures that another model drew, got both; leave one out, or "
                'give the pictures of one benchmark as -b geneval={"pictures": {"uri": ...}}'
            )
        yield from ({**spec, "model": of_run(storage.absolute(model))} for model in models)
        return
    if pictures is not None and not pictures.strip():
        raise ValueError("--pictures: expected a folder or table of pictures, got ''")
    if pictures is None and not elsewhere:
        raise ValueError("expected model folders, or --pictures with a folder that another model drew; got neither")
    if pictures is not None and not is_table(pictures) and os.path.isfile(pictures):
        if not storage.is_archive(pictures):
            raise ValueError(
                "--pictures: expected a folder, a .zip or a table (.csv, .tsv, .jsonl, .json, .parquet), got the file "
                f"{pictures}"
            )
        name, pictures = name or storage.name(pictures)[:-4], storage.inside_archive(storage.absolute(pictures))
    for key, part in spec.items():
        if isinstance(part, dict) and key in _with_pictures() and not part.get("pictures") and pictures is not None:
            uri = _own_folder(storage.absolute(pictures), key)
            part["pictures"] = {"uri": uri}
            if key in _PROMPTS_FROM_TABLE and is_table(uri) and not part.get("prompts"):
                part["prompts"] = [{"file": {"uri": uri}}]
    first = pictures or next(iter(elsewhere.values()))["uri"]
    by_place = storage.name(storage.absolute(str(first)).rstrip("/"))
    yield {**spec, "model": "", "pictures_of": _checked_name(name) or by_place}


def _checked_name(name: str) -> str:
    """Return the name without blanks at its ends; a name with line breaks or other control characters is refused.

    Names stand in tables, pages and LaTeX files, where such characters would change what is around them.
    """
    if name and not name.strip():
        raise ValueError(f"--name: expected the name of a model, got {name!r}")
    if bad := next((char for char in name if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")), None):
        raise ValueError(f"--name: expected printable characters, found {bad!r} in {name!r:.80}; leave it out")
    if len(name) > _MOST_CHARACTERS:
        raise ValueError(f"--name: expected at most {_MOST_CHARACTERS} characters, got {len(name)}")
    return name.strip()


def _with_pictures() -> frozenset[str]:
    """Return the fields of an evaluation whose benchmark can score pictures that were drawn elsewhere."""
    from infinity.jobs.evaluation.spec import BENCHMARKS_OF_PICTURES

    return BENCHMARKS_OF_PICTURES


def _own_folder(pictures: str, benchmark: str) -> str:
    """Return the folder of one benchmark within a folder for several, if there is one."""
    from infinity import storage
    from infinity.evaluation.pictures.table import is_table

    inner = storage.join(pictures, benchmark)
    return inner if not is_table(pictures) and storage.list_files(inner) else pictures


def unmeasured(spec: EvaluateSpec, report: EvaluateReport) -> list[str]:
    """Return one sentence for every benchmark without any score."""
    sentences = []
    for words, benchmark in spec.prompt_benchmarks():
        overall = next((score for score in report.scores if score.metric == f"{benchmark.name}.overall"), None)
        if overall is not None and overall.value is None:
            where = "" if benchmark.pictures is None else f" in {benchmark.pictures.uri}"
            sentences.append(f"{words}{where}: nothing was measured ({overall.note})")
    return sentences
