"""Remove what a plan of removal names: owned while it goes, looked at once more before, safe to kill at any moment."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from infinity import storage
from infinity.config import ConfigError
from infinity.jobs.dataset.spec import BuildDatasetSpec
from infinity.jobs.ownership import SILENCE_S
from infinity.jobs.removing import remove_content
from infinity.jobs.spec import REPORT_FILE
from infinity.jobs.upkeep.inventory import PLAN_FILE
from infinity.jobs.upkeep.plans import planned_names
from infinity.jobs.upkeep.rules import GcPlan, Removable
from infinity.storage.fences import fenced
from infinity.storage.inventory import StoredFile, folders_in
from infinity.storage.leases.lease import acquire
from infinity.storage.leases.look import holder


@dataclass(frozen=True, slots=True)
class Removed:
    """What became of one removable thing.

    Attributes:
        spared: Reason why it stays after all; empty where it is gone.
    """

    item: Removable
    spared: str = ""


def remove(plan: GcPlan, runs: tuple[str, ...]) -> Iterator[Removed]:
    """Remove everything that a plan names, and yield what became of it.

    Folders of jobs go one by one, each owned meanwhile: a job that has begun there since, here or on another machine,
    keeps it. The plans of all runs are read anew before each.

    Raises:
        StorageError: Something cannot be read or deleted; the same command goes on later.
    """
    going = {item.stage for item in plan.removable if item.kind == "stage"}
    stayed = {stage.uri for stage in plan.stages} - going
    for item in plan.removable:
        if item.kind == "draft":
            yield _remove_draft(item)
        elif item.stage is not None:
            yield _remove_owned(item, item.stage, runs)
        elif item.run is not None and (build := _other_build(item.run, stayed)) is not None:
            yield Removed(item, f"{build} may name it by now")
        else:
            storage.delete_tree(item.uri)
            yield Removed(item)


def _remove_draft(item: Removable) -> Removed:
    """Remove what a writer did not finish, unless the job in whose folder it lies is being worked on."""
    owner = None if item.stage is None else holder(item.stage)
    if owner is not None and not owner.is_gone:
        return Removed(item, f"{item.stage} is being worked on by {owner.who}, since {owner.since}")
    StoredFile(item.uri, item.num_bytes, 0.0, item.upload).discard()
    return Removed(item)


def _other_build(run: str, stayed: Collection[str]) -> str | None:
    """Return a data set of a run that the plan of removal has not reckoned with; None where there is none.

    It has begun since, or should have been removed and was spared.

    Args:
        run: Folder of the run.
        stayed: Folders of jobs that stay by that plan; all builds among them had ended.
    """
    for folder in folders_in(run):
        if storage.name(folder).rpartition("-")[0] != BuildDatasetSpec.kind:
            continue
        if folder not in stayed or not storage.exists(storage.join(folder, REPORT_FILE)):
            return folder
    return None


def _remove_owned(item: Removable, folder: str, runs: tuple[str, ...]) -> Removed:
    """Remove the folder of a job, or a state in it, unless somebody works there or a plan names it by now."""
    try:
        lease = acquire(folder, silence_s=SILENCE_S, wait=False)
    except storage.LeaseHeldError as error:
        return Removed(item, str(error))
    is_gone = False
    try:
        if item.kind == "stage" and (run := _now_named(folder, runs)) is not None:
            return Removed(item, f"the plan of {run} names it by now")
        with fenced(lease.fence):
            if item.kind == "stage":
                remove_content(folder)
            else:
                storage.delete_tree(item.uri)
        is_gone = item.kind == "stage"
    finally:
        # The token of an unfinished job stays, as when its owner gives it back.
        lease.release(finished=is_gone or storage.exists(storage.join(folder, REPORT_FILE)), empty=is_gone)
    return Removed(item)


def _now_named(folder: str, runs: tuple[str, ...]) -> str | None:
    name = storage.name(folder)
    for run in runs:
        uri = storage.join(run, PLAN_FILE)
        try:
            if storage.exists(uri) and name in planned_names(storage.read_bytes(uri), uri):
                return run
        except ConfigError:
            if folder.startswith(f"{run}/"):
                return run
    return None
