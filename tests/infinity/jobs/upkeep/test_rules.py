"""What is needed stays, what nothing needs may go: plans, champions, schedules and unfinished jobs are asked."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from infinity import storage
from infinity.data.dataset.manifest import Manifest
from infinity.data.dataset.verify import verify
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from infinity.jobs.dataset.facts import FACTS_FOLDER
from infinity.jobs.registry import KINDS
from infinity.jobs.upkeep.inventory import BULK_FOLDERS, take_inventory
from infinity.jobs.upkeep.prefect_names import PrefectAddress, PrefectUnknownError, scheduled_texts
from infinity.jobs.upkeep.removal import remove
from infinity.jobs.upkeep.rules import DAY_S, GcPlan, GcRules, gc_plan
from infinity.recipes.runs import end_to_end
from infinity.scenes.drawing import ScenesConfig
from infinity.storage.inventory import folders_in, unfinished_files
from infinity.storage.leases.lease import acquire
from tests.fixtures.jobs.run_roots import stage_name, write_champion, write_plan, write_stage
from tests.fixtures.servers.prefect_api import ask

LATER_S = 2 * DAY_S
"""Two days after everything was written."""


@pytest.fixture(params=["disk", "file", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty root of runs."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3_server')}/runs"
    return {"disk": str(tmp_path / "my runs"), "file": (tmp_path / "my runs").as_uri()}[request.param]


def planned(root: str, rules: GcRules | None = None, *, after_s: float = LATER_S, **outside: str) -> GcPlan:
    return gc_plan(take_inventory(root), rules or GcRules(), outside, now=time.time() + after_s)


def gone(plan: GcPlan) -> set[str]:
    """Names of the stages that may go."""
    return {storage.name(item.uri) for item in plan.removable if item.kind == "stage"}


def test_a_stage_that_no_plan_names_goes_and_what_the_plan_needs_stays(root: str) -> None:
    run_folder = storage.join(root, "demo")
    dataset = write_stage(run_folder, stage_name("dataset", 1))
    tokenizer = write_stage(run_folder, stage_name("tokenizer", 1), [f"{dataset}/manifest.parquet"])
    model = write_stage(run_folder, stage_name("transformer", 1), [f"{tokenizer}/model"])
    old = write_stage(run_folder, stage_name("transformer", 2), [f"{tokenizer}/model"])
    write_plan(run_folder, [model])
    plan = planned(root)
    assert gone(plan) == {storage.name(old)}
    (item,) = plan.removable
    assert item.num_bytes == sum(storage.size(uri) for uri in storage.list_files(old))
    assert plan.needed[storage.name(dataset)] == f"needed by {storage.name(tokenizer)}"


def test_folders_are_listed_whatever_lies_in_them(root: str) -> None:
    for name in ("b/c/.x.part", "a b/.lease", "file", "d/e"):
        storage.write_text(storage.join(root, name), "x")
    spelled = "a%20b" if root.startswith("file:") else "a b"
    assert folders_in(root) == tuple(storage.join(root, name) for name in (spelled, "b", "d"))
    assert folders_in(storage.join(root, "nowhere")) == ()


def test_young_files_stay(root: str) -> None:
    write_stage(storage.join(root, "demo"), stage_name("evaluation", 1))
    write_plan(storage.join(root, "demo"), [])
    assert not planned(root, after_s=3600.0).removable
    assert gone(planned(root))


def test_every_champion_stays_with_all_it_was_made_from_whatever_the_path_to_it(root: str) -> None:
    run_folder = storage.join(root, "demo")
    tokenizer = write_stage(run_folder, stage_name("tokenizer", 7))
    models = [write_stage(run_folder, stage_name("transformer", i), [f"{tokenizer}/model"]) for i in range(4)]
    write_plan(run_folder, [])
    write_champion(root, "demo", 1, f"{models[0]}/model")
    write_champion(root, "demo", 2, f"/mnt/elsewhere/{storage.name(models[1])}/model")  # the root was moved
    storage.write_text(storage.join(root, "registry", "demo", "kept", "x.json"), json.dumps({"model": models[2]}))
    outside = {"champions": json.dumps({"model": f"{models[3]}/model"})}
    assert gone(planned(root)) == {storage.name(models[2]), storage.name(models[3])}
    assert gone(planned(root, **outside)) == {storage.name(models[2])}


def test_the_newest_finished_models_of_a_run_stay_since_schedules_score_them(root: str) -> None:
    run_folder = storage.join(root, "demo")
    models = [write_stage(run_folder, stage_name("transformer", i)) for i in range(4)]
    unfinished = write_stage(run_folder, stage_name("transformer", 9), done=False)
    write_plan(run_folder, [unfinished], [f"{model}/model" for model in [*models, unfinished]])
    assert gone(planned(root)) == {storage.name(model) for model in models[:2]}
    assert gone(planned(root, GcRules(keep_models=1))) == {storage.name(model) for model in models[:3]}


def test_an_unfinished_job_stays_with_its_inputs_until_it_is_given_up(root: str) -> None:
    run_folder = storage.join(root, "demo")
    tokenizer = write_stage(run_folder, stage_name("tokenizer", 1))
    cut_off = write_stage(run_folder, stage_name("transformer", 1), [f"{tokenizer}/model"], done=False)
    write_plan(run_folder, [])
    assert not gone(planned(root))
    names = {storage.name(tokenizer), storage.name(cut_off)}
    assert gone(planned(root, after_s=40 * DAY_S)) == names


def test_jobs_outside_of_runs_stay_with_what_they_name(root: str) -> None:
    model = write_stage(storage.join(root, "demo"), stage_name("transformer", 1))
    write_plan(storage.join(root, "demo"), [])
    write_stage(storage.join(root, "evaluations"), stage_name("evaluation", 1), [f"{model}/model"])
    assert not planned(root).removable


def test_downloads_stay_unless_caches_may_go(root: str) -> None:
    fetched = write_stage(storage.join(root, "demo"), stage_name("download", 1))
    storage.write_text(storage.join(root, "demo", "reduced", "0", "0.parquet"), "smaller")
    write_plan(storage.join(root, "demo"), [])
    assert not planned(root).removable
    found = planned(root, GcRules(caches=True)).removable
    assert {item.uri for item in found} == {fetched, storage.join(root, "demo", "reduced")}


def test_old_states_go_and_the_newest_stays(root: str) -> None:
    run_folder = storage.join(root, "demo")
    states = {"step-00000010": True, "step-00000020": True}
    done = write_stage(run_folder, stage_name("tokenizer", 1), states=states)
    cut = {"step-00000010": False, "step-00000020": True, "step-00000030": True, "step-00000040": False}
    going = write_stage(run_folder, stage_name("tokenizer", 2), done=False, states=cut)
    write_plan(run_folder, [done, going])
    found = {item.uri for item in planned(root).removable}
    assert found == {f"{done}/state/step-00000010", f"{going}/state/step-00000010"}
    found = {item.uri for item in planned(root, GcRules(finished_states=True)).removable}
    assert found == {f"{done}/state/step-00000010", f"{done}/state/step-00000020", f"{going}/state/step-00000010"}


def test_temporary_files_of_dead_writers_go(tmp_path: Path) -> None:
    draft = tmp_path / "demo" / ".model.safetensors.0123.part"
    draft.parent.mkdir()
    draft.write_bytes(b"half")
    write_plan(str(tmp_path / "demo"), [])
    (item,) = planned(str(tmp_path)).removable
    assert (item.kind, item.uri, item.num_bytes) == ("draft", str(draft), 4)
    assert not planned(str(tmp_path), after_s=0.0).removable
    list(remove(planned(str(tmp_path)), ()))
    assert not draft.exists()


def test_uploads_to_a_bucket_that_did_not_end_go(s3_server: str) -> None:
    import boto3

    bucket = s3_server.removeprefix("s3://")
    client = boto3.client("s3")
    for key in ("runs/demo/big.tar", "elsewhere/big.tar"):
        id_ = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        client.upload_part(Bucket=bucket, Key=key, UploadId=id_, PartNumber=1, Body=b"x" * 1000)
    client.put_object(Bucket=bucket, Key="runs/demo/big.tar", Body=b"an older file of the name")
    root = f"{s3_server}/runs"
    write_plan(f"{root}/demo", [])
    (item,) = planned(root).removable
    assert (item.kind, item.uri, item.num_bytes) == ("draft", f"{root}/demo/big.tar", 1000)
    list(remove(planned(root), ()))
    assert not unfinished_files(root)
    assert len(unfinished_files(s3_server)) == 1
    assert storage.read_bytes(f"{root}/demo/big.tar") == b"an older file of the name"
    list(remove(GcPlan((item,), {}, ()), ()))  # another process was faster


@pytest.mark.parametrize("root", ["disk", "file"], indirect=True)
def test_shards_go_with_the_data_set_that_named_them_and_shared_ones_stay(root: str) -> None:
    run_folder = storage.join(root, "demo")
    few = BuildDatasetSpec(output=run_folder, scenes=ScenesConfig(count=12, size_px=32), samples_per_shard=4)
    with in_process():
        first, second = run(few), run(few.replace(scenes=ScenesConfig(count=10, size_px=32, seed=5)))
    write_plan(run_folder, [second.manifest])
    plan = planned(root)
    shards = {item.uri for item in plan.removable if item.kind == "shard"}
    lost = {Manifest.load(first.manifest).shard_uri(shard.path) for shard in Manifest.load(first.manifest).head.shards}
    assert lost
    assert lost <= shards
    list(remove(plan, take_inventory(root).runs))
    assert not verify(Manifest.load(second.manifest))
    assert not planned(root).removable
    with in_process():
        assert not verify(Manifest.load(run(few).manifest))  # it is built again


@pytest.mark.parametrize("how", ["a plan names the data set by now", "a build has begun"])
def test_shards_that_a_data_set_may_name_since_the_plan_was_made_stay(tmp_path: Path, how: str) -> None:
    root, run_folder = str(tmp_path), str(tmp_path / "demo")
    with in_process():
        report = run(BuildDatasetSpec(output=run_folder, scenes=ScenesConfig(count=12, size_px=32)))
    write_plan(run_folder, [])
    plan = planned(root)
    assert {item.kind for item in plan.removable} == {"stage", "shard"}
    if how == "a build has begun":
        acquire(write_stage(run_folder, stage_name("dataset", 1), done=False), silence_s=60.0).release(finished=False)
    else:
        write_plan(run_folder, [report.manifest])
    spared = [removed for removed in remove(plan, take_inventory(root).runs) if removed.spared]
    assert [removed.item.uri for removed in spared if removed.item.kind == "shard"] == [
        item.uri for item in plan.removable if item.kind == "shard"
    ]
    if how != "a build has begun":
        assert not verify(Manifest.load(report.manifest))


def test_the_temporary_file_of_a_job_that_works_stays(tmp_path: Path) -> None:
    run_folder = str(tmp_path / "demo")
    job = write_stage(run_folder, stage_name("tokenizer", 1), done=False)
    write_plan(run_folder, [job])
    draft = Path(job) / ".x.0.part"
    draft.write_bytes(b"half")
    plan = planned(str(tmp_path))
    assert [item.uri for item in plan.removable] == [str(draft)]
    lease = acquire(job, silence_s=60.0)
    try:
        (spared,) = remove(plan, take_inventory(str(tmp_path)).runs)
        assert "is being worked on by" in spared.spared
    finally:
        lease.release(finished=False)
    assert draft.exists()
    assert [removed.spared for removed in remove(plan, take_inventory(str(tmp_path)).runs)] == [""]
    assert not draft.exists()


def test_no_shard_goes_while_a_build_has_not_ended(tmp_path: Path) -> None:
    run_folder = tmp_path / "demo"
    storage.write_text(str(run_folder / "shards" / "train-1-abc.tar"), "pictures")
    build = write_stage(str(run_folder), stage_name("dataset", 1), done=False)
    write_plan(str(run_folder), [build])
    assert not planned(str(tmp_path)).removable
    storage.delete_tree(build)
    assert [item.kind for item in planned(str(tmp_path)).removable] == ["shard"]


def test_a_single_run_is_refused_since_others_may_need_its_files(tmp_path: Path) -> None:
    write_plan(str(tmp_path), [])
    with pytest.raises(ValueError, match="expected the folder that holds all runs, found one run"):
        take_inventory(str(tmp_path))


def test_a_damaged_list_of_models_ends_everything(tmp_path: Path) -> None:
    write_plan(str(tmp_path / "demo"), [])
    (tmp_path / "demo" / "models.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"models.json: expected a list of model folders"):
        planned(str(tmp_path))


def test_folders_of_pictures_are_not_read_for_names() -> None:
    assert FACTS_FOLDER in BULK_FOLDERS
    assert not set(BULK_FOLDERS) & {"registry", "versions"}


@pytest.mark.parametrize("seed", range(5))
def test_whatever_names_whatever_only_what_nothing_needs_goes(tmp_path: Path, seed: int, exhaustive: bool) -> None:
    for number in range(seed, 200 if exhaustive else seed + 1, 5):
        check_random_root(str(tmp_path / str(number)), random.Random(number))


def check_random_root(root: str, rng: random.Random) -> None:
    """Compare with a search that walks the graph by itself."""
    runs = [storage.join(root, f"run{i}") for i in range(3)]
    stages: dict[str, list[str]] = {}
    for i in range(20):
        needs = rng.sample(sorted(stages), k=min(len(stages), rng.randrange(3)))
        stages[write_stage(rng.choice(runs), stage_name(rng.choice(KINDS[1:]), i), needs)] = needs
    begun = [rng.sample(sorted(stages), k=1) for _ in runs]
    for run_folder, named in zip(runs, begun, strict=True):
        write_plan(run_folder, named)
    champion, schedule = rng.sample(sorted(stages), k=2)
    write_champion(root, "demo", 1, champion)
    alive, waiting = set(), [champion, schedule, *(each for named in begun for each in named)]
    while waiting:
        stage = waiting.pop()
        if stage not in alive:
            alive.add(stage)
            waiting += stages[stage]
        waiting += [each for each in stages if each not in alive and scores_what_stays(each, stages[each], alive)]
    found = {item.uri for item in planned(root, schedule=f"model={schedule}/model").removable}
    assert found == set(stages) - alive


def scores_what_stays(stage: str, needs: list[str], alive: set[str]) -> bool:
    kind = storage.name(stage).rpartition("-")[0]
    return kind in ("evaluation", "sweep", "savings") and any(
        "transformer-" in need and need in alive for need in needs
    )


def test_every_stage_of_a_real_plan_stays_though_no_text_names_its_folder(tmp_path: Path) -> None:
    run_folder = str(tmp_path / "demo")
    plan = end_to_end("mini", source=None, output=run_folder)
    storage.write_text(storage.join(run_folder, "run.json"), json.dumps(plan.to_json()))
    for spec in (plan.dataset, plan.tokenizer, plan.pretrain, plan.finetune, plan.evaluation):
        write_stage(run_folder, storage.name(spec.folder))
    assert storage.name(plan.evaluation.folder) not in json.dumps(plan.to_json())
    again = write_stage(run_folder, stage_name("evaluation", 3), [plan.evaluation.model])
    assert not planned(str(tmp_path)).removable
    old = json.dumps(plan.to_json()).replace('"manifest"', '"a_field_of_another_version"')
    storage.write_text(storage.join(run_folder, "run.json"), old)
    assert not planned(str(tmp_path)).removable
    storage.delete_tree(storage.join(run_folder, "run.json"))
    write_plan(run_folder, [])
    assert storage.name(again) in gone(planned(str(tmp_path)))


@pytest.mark.prefect
def test_what_a_schedule_or_a_waiting_run_of_prefect_names_stays(tmp_path: Path, prefect_server: str) -> None:
    run_folder = str(tmp_path / "demo")
    model, waiting, free = (write_stage(run_folder, stage_name("transformer", 40 + i)) for i in range(3))
    write_plan(run_folder, [])
    flow = ask(prefect_server, "flows/", {"name": "evaluate-for-gc"})
    deployment = {"name": "gc", "flow_id": flow["id"], "schedules": [
        {"schedule": {"cron": "0 3 * * *"}, "active": False, "parameters": {"model": f"{model}/model"}}
    ]}  # fmt: skip
    ask(prefect_server, "deployments/", deployment)
    run_of = {"flow_id": flow["id"], "parameters": {"model": f"{waiting}/model"}}
    flow_run = ask(prefect_server, "flow_runs/", {**run_of, "state": {"type": "SCHEDULED"}})
    try:
        address = PrefectAddress(prefect_server, os.environ["PREFECT_API_AUTH_STRING"])
        texts = " ".join(text for _, text in scheduled_texts(address))
        assert gone(planned(str(tmp_path), prefect=texts)) == {storage.name(free)}
        with pytest.raises(PrefectUnknownError, match="start the server, correct PREFECT_API_URL"):
            list(scheduled_texts(PrefectAddress(prefect_server, "wrong:password")))
    finally:
        ask(prefect_server, f"flow_runs/{flow_run['id']}", method="DELETE")


def test_a_server_that_does_not_answer_ends_everything() -> None:
    with pytest.raises(PrefectUnknownError, match="--without-prefect"):
        list(scheduled_texts(PrefectAddress("http://127.0.0.1:1/api")))


def make_old(place: str, moment: float) -> None:
    """Set the time of a file's last change, or that of all files below a folder."""
    for path in [Path(place)] if Path(place).is_file() else Path(place).rglob("*"):
        os.utime(path, (moment, moment))


def test_what_is_just_as_old_as_the_rules_say_stays_and_what_is_older_goes(tmp_path: Path) -> None:
    now, day_s = 2_000_000_000.0, 86_400.0
    run_folder = str(tmp_path / "demo")
    unfinished = [write_stage(run_folder, stage_name("tokenizer", n), done=False) for n in range(2)]
    done = [write_stage(run_folder, stage_name("evaluation", n)) for n in range(2)]
    files = [
        storage.join(run_folder, name)
        for name in ("shards/train-0-abc.tar", "shards/train-1-abc.tar", ".x.0.part", ".x.1.part", "reduced/0.parquet")
    ]
    for uri in files:
        storage.write_text(uri, "x")
    states = {f"step-000000{n}0": True for n in (1, 2, 3)}
    trained = write_stage(run_folder, stage_name("transformer", 5), states=states)
    write_plan(run_folder, [trained])
    first, second, _ = (f"{trained}/state/{name}" for name in states)
    for young, old, age_s in (
        (unfinished[0], unfinished[1], 30 * day_s), (done[0], done[1], day_s), (files[0], files[1], day_s),
        (files[2], files[3], day_s), (first, second, day_s),
    ):  # fmt: skip
        make_old(young, now - age_s)
        make_old(old, now - age_s - 1.0)
    make_old(files[4], now - day_s)
    expected = {unfinished[1], done[1], files[1], files[3], second}
    for rules in (GcRules(), GcRules(caches=True)):
        assert {item.uri for item in gc_plan(take_inventory(str(tmp_path)), rules, {}, now=now).removable} == expected
    make_old(files[4], now - day_s - 1.0)
    plan = gc_plan(take_inventory(str(tmp_path)), GcRules(caches=True), {}, now=now)
    assert {item.uri for item in plan.removable} == expected | {f"{run_folder}/reduced"}
