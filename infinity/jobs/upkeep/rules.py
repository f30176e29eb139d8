"""Rules of removal: what below a root of runs may go, with its bytes and the reason."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from infinity import storage
from infinity.checkpoint import MARKER_FILE
from infinity.config import Config
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.shards import SHARDS_FOLDER
from infinity.jobs.dataset.build import MANIFEST_FILE
from infinity.jobs.dataset.facts import REDUCED_FOLDER
from infinity.jobs.dataset.purge import unneeded_shards
from infinity.jobs.training.base import STATE_FOLDER
from infinity.jobs.upkeep.inventory import Inventory, StageFolder
from infinity.jobs.upkeep.references import needed_stages
from infinity.ranges import NotNegative
from infinity.storage.inventory import StoredFile, unfinished_files

HOUR_S, DAY_S = 3600.0, 86_400.0
DOWNLOAD = "download"
"""Kind of jobs whose files come from elsewhere, and may not be had again."""
_STEP = re.compile(rf"{STATE_FOLDER}/(step-\d+)/(.+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class GcRules(Config):
    """What may be removed.

    Attributes:
        older_than_hours: Hours without a change before anything goes; younger files may be about to be named.
        keep_models: Number of the newest finished models of each run that stay, whatever the plan names now; at least
            1, which scheduled evaluations score.
        abandoned_after_days: Days without a change after which an unfinished job that no plan names is given up.
        finished_states: Whether the last stored state of a finished training goes too. `infinity redraw` and
            `infinity diagnose` read it.
        caches: Whether pictures that a data set's build stored smaller, and downloads that nothing names, go too; a new
            build makes or fetches them again.
    """

    older_than_hours: NotNegative = 24.0
    keep_models: int = 2
    abandoned_after_days: NotNegative = 30.0
    finished_states: bool = False
    caches: bool = False

    def __post_init__(self) -> None:
        if self.keep_models < 1:
            raise ValueError(f"keep_models: expected at least 1, got {self.keep_models}; a schedule scores the newest")


@dataclass(frozen=True, slots=True)
class Removable:
    """Something that may go.

    Attributes:
        kind: "stage", "state", "shard", "cache" or "draft".
        uri: Place of the file or folder.
        num_bytes: Bytes that become free.
        why: Reason in words.
        stage: Folder of the job that it belongs to, which nobody may work in meanwhile; None where it belongs to none.
        run: Folder of the run whose data sets share it, no build of which may be at work meanwhile; None elsewhere.
        upload: Id of an upload in parts that did not end; empty for everything else.
    """

    kind: str
    uri: str
    num_bytes: int
    why: str
    stage: str | None = None
    run: str | None = None
    upload: str = ""


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What may go and what stays.

    Attributes:
        removable: What may go, by kind and place.
        needed: Reasons why stages stay, by their names.
    """

    removable: tuple[Removable, ...]
    needed: Mapping[str, str]
    stages: tuple[StageFolder, ...]


def gc_plan(inventory: Inventory, rules: GcRules, outside: Mapping[str, str], *, now: float) -> GcPlan:
    """Return what may go.

    Args:
        inventory: What lies below the root.
        outside: Texts from elsewhere that may name stages, by what they are.
        now: Time in seconds since 1970.

    Raises:
        StorageError: A file cannot be read. Then nothing is known to be unneeded.
        ValueError: A list of models or a manifest is damaged.
    """
    unfinished = [stage for stage in inventory.stages if _may_go_on(stage, rules, now)]
    needed = needed_stages(inventory, keep_models=rules.keep_models, unfinished=unfinished, outside=outside)
    before = now - rules.older_than_hours * HOUR_S
    gone = [stage for stage in inventory.stages if stage.is_half_removed or _is_unneeded(stage, rules, needed, before)]
    found = [Removable("stage", stage.uri, stage.num_bytes, _why(stage, rules), stage.uri) for stage in gone]
    going = {stage.uri for stage in gone}
    stay = [stage for stage in inventory.stages if stage.uri not in going]
    for stage in stay:
        found += _old_states(stage, rules, before)
    for run in inventory.runs:
        builds = [stage for stage in stay if stage.kind == "dataset" and stage.run == run]
        if all(stage.is_done for stage in builds):  # a build that goes on may name any of them
            found += _shards(inventory, run, builds, before)
            found += _caches(inventory, run, rules, before)
    inside_gone = tuple(f"{stage.uri}/" for stage in gone)
    for draft in unfinished_files(inventory.root):
        if draft.changed < before and not draft.uri.startswith(inside_gone):
            why = "its writer began it and did not finish it"
            place = next((stage.uri for stage in stay if draft.uri.startswith(f"{stage.uri}/")), None)
            found.append(Removable("draft", draft.uri, draft.num_bytes, why, place, upload=draft.upload))
    return GcPlan(tuple(found), needed, inventory.stages)


def _may_go_on(stage: StageFolder, rules: GcRules, now: float) -> bool:
    return not stage.is_done and not stage.is_half_removed and stage.changed >= now - rules.abandoned_after_days * DAY_S


def _is_unneeded(stage: StageFolder, rules: GcRules, needed: Mapping[str, str], before: float) -> bool:
    if stage.kind == DOWNLOAD and not rules.caches:
        return False
    return stage.name not in needed and stage.changed < before


def _why(stage: StageFolder, rules: GcRules) -> str:
    if stage.is_half_removed:
        return "its removal was cut off"
    if stage.is_done:
        return "no plan, champion, schedule or unfinished job names it"
    return f"not finished, untouched for {rules.abandoned_after_days:g} days, and nothing names it"


def _old_states(stage: StageFolder, rules: GcRules, before: float) -> Iterator[Removable]:
    """Yield stored states that nothing will go on from."""
    states: dict[str, list[StoredFile]] = defaultdict(list)
    finished = set()
    for path, file in stage.paths.items():
        if match := _STEP.fullmatch(path):
            states[match[1]].append(file)
            if match[2] == MARKER_FILE:
                finished.add(match[1])
    newest = max(finished, default="")
    for name, files in sorted(states.items()):
        if max(file.changed for file in files) >= before:
            continue
        if stage.is_done and name != newest:
            why = "the training is finished, and a newer state stays"
        elif stage.is_done and rules.finished_states:
            why = "the training is finished"
        elif not stage.is_done and name not in finished and name < newest:
            why = "it was never finished, and a newer state is"
        else:
            continue
        uri = storage.join(stage.uri, STATE_FOLDER, name)
        yield Removable("state", uri, sum(file.num_bytes for file in files), why, stage.uri)


def _shards(inventory: Inventory, run: str, builds: list[StageFolder], before: float) -> Iterator[Removable]:
    """Yield shards of a run that no manifest of its finished builds names."""
    prefix = f"{storage.join(run, SHARDS_FOLDER)}/"
    shards = [file for file in inventory.files if file.uri.startswith(prefix)]
    if not shards:
        return
    manifests = [Manifest.load(stage.paths[MANIFEST_FILE].uri) for stage in builds if MANIFEST_FILE in stage.paths]
    for file in chain.from_iterable(unneeded_shards(run, shards, manifests, before)):
        yield Removable("shard", file.uri, file.num_bytes, "no data set that stays names it", run=run)


def _caches(inventory: Inventory, run: str, rules: GcRules, before: float) -> Iterator[Removable]:
    prefix = f"{storage.join(run, REDUCED_FOLDER)}/"
    files = [file for file in inventory.files if rules.caches and file.uri.startswith(prefix)]
    if files and max(file.changed for file in files) < before:
        size = sum(file.num_bytes for file in files)
        yield Removable("cache", prefix.rstrip("/"), size, "a new build of the data set makes it again", run=run)
