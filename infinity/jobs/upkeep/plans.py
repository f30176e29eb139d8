"""The plan of a run, read without the recipes: which spec each stage has, and so which folder; its finished models."""

from __future__ import annotations

from collections.abc import Mapping

from infinity import storage
from infinity.config import ConfigError, parse_json
from infinity.jobs.registry import parse_spec
from infinity.jobs.spec import JobSpec
from infinity.jobs.upkeep.inventory import MODELS_FILE, STAGE_NAME
from infinity.storage.json_files import read_json

PLAN_KINDS = {
    "dataset": "dataset", "tokenizer": "tokenizer", "pretrain": "transformer", "finetune": "transformer",
    "evaluation": "evaluation",
}  # fmt: skip
"""Kind of job of each stage of a plan, in the order in which they run."""


def planned_specs(text: str | bytes, where: str) -> dict[str, JobSpec]:
    """Return the specs of a plan by the names of its stages.

    Args:
        text: Content of ``run.json``.
        where: URI of the plan, for messages.

    Raises:
        ConfigError: The plan is of another version, or damaged.
    """
    data = parse_json(text, where=where)
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected an object with the stages of a run")
    return {
        name: parse_spec({"kind": kind, "spec": data[name]}, where=f"{where}: {name}")
        for name, kind in PLAN_KINDS.items()
        if name in data
    }


def planned_names(text: str | bytes, where: str) -> set[str]:
    """Return the names of all stages of a plan, and of those that it refers to.

    Raises:
        ConfigError: The plan is of another version, or damaged.
    """
    named = {storage.name(spec.folder) for spec in planned_specs(text, where).values()}
    return named | set(STAGE_NAME.findall(text if isinstance(text, str) else text.decode("utf-8", "replace")))


def finished_models(run: str) -> list[str]:
    """Return the models of the run in this folder whose trainings ended, the newest last.

    A run that was begun by an older version has no list.

    Raises:
        ConfigError: The list is damaged.
        StorageError: The list cannot be read.
    """
    uri, remedy = storage.join(run, MODELS_FILE), "restore the file, or delete it to begin a new list"
    if not storage.exists(uri):
        return []
    found = read_json(uri, remedy=remedy)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ConfigError(f"{uri}: expected a list of model folders, found {found!r:.80}; {remedy}")
    return found
