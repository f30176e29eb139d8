"""A removal that is killed anywhere leaves nothing that looks finished and is not; who works somewhere keeps it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinity import storage
from infinity.cli import app
from infinity.jobs import removing
from infinity.jobs.ownership import owned
from infinity.jobs.progress import silent
from infinity.jobs.spec import begin, is_done
from infinity.jobs.upkeep.inventory import take_inventory
from infinity.jobs.upkeep.removal import Removed, remove
from infinity.jobs.upkeep.rules import DAY_S, GcPlan, GcRules, gc_plan
from infinity.storage.leases.lease import acquire
from tests.fixtures.faults.killing import REPOSITORY
from tests.fixtures.jobs.run_roots import stage_name, write_plan, write_stage
from tests.fixtures.jobs.small_jobs import spec_of
from tests.fixtures.limits import AGES_S


class Killed(BaseException):
    """The process ends here."""


def planned(root: str) -> GcPlan:
    return gc_plan(take_inventory(root), GcRules(), {}, now=time.time() + 2 * DAY_S)


def removed(root: str, plan: GcPlan | None = None) -> list[Removed]:
    return list(remove(plan or planned(root), take_inventory(root).runs))


def world(root: str) -> tuple[str, str]:
    """Return the folders of a job that is needed and of one that is not."""
    run_folder = storage.join(root, "demo")
    needed = write_stage(run_folder, stage_name("tokenizer", 1))
    states = {"step-00000010": True, "step-00000020": True}
    free = write_stage(run_folder, stage_name("transformer", 2), [needed], states=states)
    write_plan(run_folder, [needed])
    return needed, free


@pytest.fixture(params=["disk", "file", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty root of runs."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_server')}/runs"
    return {"disk": str(tmp_path), "file": tmp_path.as_uri()}[request.param]


def test_what_is_not_needed_goes_without_a_trace_and_nothing_else(root: str) -> None:
    needed, free = world(root)
    before = storage.list_files(needed)
    assert [each.spared for each in removed(root)] == [""]
    assert not storage.exists(free)
    assert storage.list_files(needed) == before
    assert removed(root) == []


def deletions(monkeypatch: pytest.MonkeyPatch, last: int) -> Iterator[None]:
    """Let the process be killed in the place of the deletion after the last one."""
    done, delete = 0, storage.delete_tree

    def counted(uri: str) -> None:
        nonlocal done
        if done >= last:
            raise Killed
        done += 1
        delete(uri)

    monkeypatch.setattr(removing.storage, "delete_tree", counted)
    yield
    monkeypatch.setattr(removing.storage, "delete_tree", delete)


@pytest.mark.parametrize("last", range(6))
def test_killed_after_any_deletion_the_next_removal_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    _, free = world(str(tmp_path))
    whole = set(storage.list_files(free))
    kill = deletions(monkeypatch, last)
    next(kill)
    try:
        removed(str(tmp_path))
    except Killed:
        assert not is_whole_and_done(free) or set(storage.list_files(free)) >= whole
    next(kill, None)
    removed(str(tmp_path))
    assert not storage.list_files(free)


def is_whole_and_done(folder: str) -> bool:
    return storage.exists(storage.join(folder, "report.json"))


@pytest.mark.parametrize("last", range(4))
def test_a_job_that_begins_in_a_half_removed_folder_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    spec = spec_of("dataset", tmp_path)
    folder = begin(spec)
    for name in ("a/0.bin", "b/1.bin", "report.json"):
        storage.write_text(storage.join(folder, name), "{}")
    kill = deletions(monkeypatch, last)
    next(kill)
    with pytest.raises(Killed):
        removing.remove_content(folder)
    next(kill, None)
    if last == 0:
        assert is_done(spec)  # its report is there, and so is all that it names
        return
    assert not is_done(spec)
    with owned(spec, silent):
        assert storage.list_files(folder) == ()


def test_who_works_in_a_folder_keeps_it(root: str) -> None:
    _, free = world(root)
    before = storage.list_files(free)
    plan = planned(root)
    lease = acquire(free, silence_s=60.0)
    try:
        (spared,) = removed(root, plan)
        assert "is being worked on by" in spared.spared
        assert storage.list_files(free) == before
    finally:
        lease.release(finished=True)


def test_a_plan_that_names_it_by_now_keeps_it(root: str) -> None:
    needed, free = world(root)
    plan = planned(root)
    write_plan(storage.join(root, "demo"), [needed, free])
    (spared,) = removed(root, plan)
    assert "names it by now" in spared.spared
    assert storage.exists(storage.join(free, "report.json"))


def test_the_token_of_an_unfinished_job_survives_the_removal_of_its_old_state(tmp_path: Path) -> None:
    run_folder = str(tmp_path / "demo")
    states = {"step-00000010": False, "step-00000020": True}
    going = write_stage(run_folder, stage_name("tokenizer", 2), done=False, states=states)
    write_plan(run_folder, [going])
    acquire(going, silence_s=60.0).release(finished=False)
    assert [each.item.kind for each in removed(str(tmp_path))] == ["state"]
    lease = acquire(going, silence_s=60.0)
    assert lease.fence.token == 3
    lease.release(finished=False)


def test_empty_folders_and_drafts_inside_go_too(tmp_path: Path) -> None:
    _, free = world(str(tmp_path))
    (Path(free) / "ray" / "empty").mkdir(parents=True)
    (Path(free) / "model" / ".x.0.part").write_bytes(b"half")
    removed(str(tmp_path))
    assert not Path(free).exists()


def test_a_real_kill_is_mended_by_the_same_command(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for number in range(30):
        write_stage(str(root / "demo"), stage_name("evaluation", number))
    write_plan(str(root / "demo"), [])
    command = [sys.executable, "-m", "infinity.cli", "gc", str(root), "--older-than-hours", "0", "--without-prefect"]
    victim = subprocess.Popen([*command, "--delete"], cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    while victim.poll() is None and len(list((root / "demo").iterdir())) > 25:
        time.sleep(0.001)
    victim.send_signal(signal.SIGKILL)
    victim.wait(timeout=AGES_S)
    for folder in (root / "demo").glob("evaluation-*"):
        if (folder / "report.json").exists():
            assert (folder / "model" / "model.safetensors").exists()
    subprocess.run([*command, "--delete"], cwd=REPOSITORY, check=True, timeout=AGES_S, stdout=subprocess.DEVNULL)
    assert sorted(os.listdir(root / "demo")) == ["models.json", "run.json"]


def test_the_command_touches_nothing_unless_told_and_says_what_and_why(tmp_path: Path) -> None:
    _, free = world(str(tmp_path))
    words = ["gc", str(tmp_path), "--older-than-hours", "0", "--without-prefect"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert free in shown.stdout
    assert "no plan, champion, schedule or unfinished job names it" in shown.stdout
    assert "nothing was touched" in shown.stdout
    assert Path(free).exists()
    assert CliRunner().invoke(app, [*words, "--keep", free, "--delete"]).exit_code == 0
    assert Path(free).exists()
    told = CliRunner().invoke(app, [*words, "--delete"])
    assert "in 1 places" in told.stderr
    assert not Path(free).exists()


def test_a_local_stack_whose_server_is_down_is_asked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (tmp_path / "state" / "stack").mkdir(parents=True)
    (tmp_path / "state" / "stack" / "services.json").write_text("{}")
    world(str(tmp_path / "runs"))
    words = ["gc", str(tmp_path / "runs"), "--older-than-hours", "0", "--state", str(tmp_path / "state"), "--delete"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 1
    assert "start it with `make up`, or give --without-prefect" in shown.stderr
