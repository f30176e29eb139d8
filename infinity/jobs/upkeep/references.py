"""Which stages are needed, and by what: plans, champions, schedules, unfinished jobs, and what those name in turn.

A stage is named by the kind and digest of its folder. Any file that holds such a name needs the stage, wherever the
folder lies and however its path is spelled: a root that was moved or mounted elsewhere loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from infinity import storage
from infinity.checkpoint import is_committed
from infinity.config import ConfigError
from infinity.evaluation.promotion.champions import KEPT_FOLDER
from infinity.jobs.upkeep.inventory import MODELS_FILE, PLAN_FILE, REGISTRY_FOLDER, STAGE_NAME, Inventory, StageFolder
from infinity.jobs.upkeep.plans import finished_models, planned_names

SCORING, MODELS = ("evaluation", "sweep", "savings"), "transformer-"
READERS = 16
"""Files that are read at once; from a bucket one takes some hundredths of a second."""


def needed_stages(
    inventory: Inventory, *, keep_models: int, unfinished: Iterable[StageFolder], outside: Mapping[str, str]
) -> dict[str, str]:
    """Return the names of all needed stages, each with the reason.

    Args:
        inventory: What lies below the root.
        keep_models: Number of the newest finished models of each run that stay, whatever its plan names now.
        unfinished: Folders of jobs that have begun and may go on.
        outside: Texts from elsewhere that may name stages, by what they are: the registry, Prefect's schedules.

    Raises:
        StorageError: A file cannot be read. Then nothing is known to be unneeded.
        ValueError: A list of models is damaged.
    """
    needed: dict[str, str] = {}
    for why, text in _roots(inventory, outside):
        for name in STAGE_NAME.findall(text):
            needed.setdefault(name, why)
    for run in inventory.runs:
        for model in _newest_models(inventory, run, keep_models):
            for name in STAGE_NAME.findall(model):
                needed.setdefault(name, f"one of the newest {keep_models} models of {storage.name(run)}")
    for why, name in _planned(inventory):
        needed.setdefault(name, why)
    for stage in unfinished:
        needed.setdefault(stage.name, "not finished, and may go on")
    for stage in inventory.stages:
        if stage.run is None:
            needed.setdefault(stage.name, "belongs to no run, so that no plan tells whether it is wanted")
    _follow(inventory, needed)
    return needed


def registry_texts(registry: str) -> Iterator[tuple[str, str]]:
    """Yield (what it is, text) of every record of the champions in a registry outside of the root.

    Raises:
        StorageError: The registry cannot be read.
    """
    uris = [uri for uri in storage.list_files(registry) if uri.endswith(".json") and f"/{KEPT_FOLDER}/" not in uri]
    for uri, text in zip(uris, _texts(uris), strict=True):
        yield f"the champion of {uri}", text


def _roots(inventory: Inventory, outside: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    uris = [uri for uri in inventory.documents if not _is_soft(uri)]
    for uri, text in zip(uris, _texts(uris), strict=True):
        yield f"named by {uri[len(inventory.root) + 1 :]}", text
    yield from outside.items()


def _is_soft(uri: str) -> bool:
    """Return whether a file names models of which not all are needed for that."""
    return storage.name(uri) == MODELS_FILE or (f"/{REGISTRY_FOLDER}/" in uri and f"/{KEPT_FOLDER}/" in uri)


def _newest_models(inventory: Inventory, run: str, number: int) -> list[str]:
    """Return the last finished models on a run's list; a scheduled evaluation scores the last one."""
    if storage.join(run, MODELS_FILE) not in inventory.documents:
        return []
    models = finished_models(run)
    return [model for model in models if is_committed(model)][-number:]


def _planned(inventory: Inventory) -> Iterator[tuple[str, str]]:
    """Yield (why, name) of every stage that a plan has; of a plan of another version all that lies beside it."""
    for run in inventory.runs:
        uri = storage.join(run, PLAN_FILE)
        try:
            yield from (
                (f"a stage of {storage.name(run)}", name) for name in planned_names(storage.read_bytes(uri), uri)
            )
        except (ConfigError, storage.FileMissingError):  # the latter: deleted since it was listed
            why = f"beside the plan of another version {uri}"
            yield from ((why, stage.name) for stage in inventory.stages if stage.run == run)


def _follow(inventory: Inventory, needed: dict[str, str]) -> None:
    """Add what needed stages name in their specs and reports, and so on."""
    waiting = dict(needed)
    while waiting:
        stages = [stage for stage in inventory.stages if stage.name in waiting]
        pairs = [(stage, uri) for stage in stages for uri in stage.documents()]
        found: dict[str, str] = {}
        for (stage, _), text in zip(pairs, _texts([uri for _, uri in pairs]), strict=True):
            for name in STAGE_NAME.findall(text):
                if name not in needed:
                    found.setdefault(name, f"needed by {stage.name}")
        found |= _scoring(inventory, needed, found)
        needed |= found
        waiting = found


def _scoring(inventory: Inventory, needed: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Return evaluations and sweeps of models that stay: their figures are about something that is there."""
    stages = [stage for stage in inventory.stages if stage.kind in SCORING and stage.name not in needed]
    pairs = [(stage, uri) for stage in stages for uri in stage.documents()]
    found = {}
    for (stage, _), text in zip(pairs, _texts([uri for _, uri in pairs]), strict=True):
        models = [name for name in STAGE_NAME.findall(text) if name.startswith(MODELS)]
        if any(name in needed or name in more for name in models):
            found[stage.name] = "scores a model that stays"
    return found


def _texts(uris: list[str]) -> list[str]:
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(_text, uris))


def _text(uri: str) -> str:
    try:
        return storage.read_text(uri)
    except storage.FileMissingError:  # deleted since it was listed
        return ""
