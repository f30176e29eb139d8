"""The plan of a run, read without the recipes: which spec each of its stages has, and so which folder."""

from __future__ import annotations

from collections.abc import Mapping

from infinity import storage
from infinity.config import ConfigError, parse_json
from infinity.jobs.registry import parse_spec
from infinity.jobs.spec import JobSpec
from infinity.jobs.upkeep.inventory import STAGE_NAME

PLAN_KINDS = {
    "dataset": "dataset", "tokenizer": "tokenizer", "pretrain": "transformer", "finetune": "transformer",
    "evaluation": "evaluation",
}  # fmt: skip
"""Kind of job of each stage of a plan, in the order in which they run."""


def planned_specs(text: str, where: str) -> dict[str, JobSpec]:
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


def planned_names(text: str, where: str) -> set[str]:
    """Return the names of all stages of a plan, and of those that it refers to.

    Raises:
        ConfigError: The plan is of another version, or damaged.
    """
    return {storage.name(spec.folder) for spec in planned_specs(text, where).values()} | set(STAGE_NAME.findall(text))
