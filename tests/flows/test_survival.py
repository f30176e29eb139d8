"""Kills of a whole flow, at any moment of any stage, change nothing about its models in the end."""

from __future__ import annotations

import logging
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from flows.records.plan import load_plan
from infinity.checkpoint import load_checkpoint
from infinity.jobs.training.base import MODEL_FOLDER, TrainSpec
from tests.fixtures.faults.killing import Victim
from tests.fixtures.jobs.training_sessions import train_here

KILLS = 10
logger = logging.getLogger(__name__)
pytestmark = [pytest.mark.ray, pytest.mark.prefect, pytest.mark.slow]


def marks(folder: Path) -> int:
    """How much of the run is on the disk: finished states, models and reports."""
    # Not rglob: it fails where a folder is dropped while it looks, as older states are.
    names = [name for _, _, files in os.walk(folder) for name in files]
    return names.count("COMMITTED") + names.count("report.json")


def is_finished(folder: Path) -> bool:
    """Whether the report of the run, its last file, is written."""
    return (folder / "report.json").exists()


def killed_at_random(folder: Path, *, kills: int, seed: int) -> Counter[str]:
    """Begin the same run again and again until it is done; how often who was killed."""
    draw, done, log = random.Random(seed), Counter[str](), folder.parent / "flow.log"
    flows: list[Victim] = []
    try:
        while not is_finished(folder):
            flows.append(Victim(["tests.fixtures.faults.flow_chaos", str(folder)], log))
            while len(flows) > 2:
                flows.pop(0).end()
            if done.total() >= kills:
                flows[-1].process.wait(timeout=3600)
                continue
            before, early = marks(folder), draw.random() < 0.25  # early: perhaps before anything was stored
            until = time.monotonic() + (draw.uniform(0.0, 10.0) if early else 300.0)
            while not flows[-1].has_ended and time.monotonic() < until and (early or marks(folder) <= before):
                time.sleep(0.1)
            if flows[-1].has_ended:
                continue
            assert early or marks(folder) > before, f"no progress in five minutes: {log.read_text()[-2000:]}"
            time.sleep(draw.random())
            if draw.random() < 0.5:
                flows[-1].kill_driver()
                done["flow"] += 1
            else:
                flows.pop().end()
                done["flow with its cluster"] += 1
    finally:
        for flow in flows:
            flow.end()
    return done


def test_random_kills_of_a_flow_end_in_the_same_models(tmp_path: Path, prefect_server: str, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("minutes; --exhaustive kills a flow ten times")
    folder = tmp_path / "run"
    done = killed_at_random(folder, kills=KILLS, seed=0)
    logger.warning("%d kills: %s", done.total(), dict(done))
    assert done.total() == KILLS, "the run was over before all kills"
    plan = load_plan(str(folder))
    for spec in (plan.tokenizer, plan.pretrain, plan.finetune):
        assert_model_of_a_quiet_run(spec, tmp_path / spec.stage)


def assert_model_of_a_quiet_run(spec: TrainSpec, place: Path) -> None:
    """The exported weights are those of a training in this process, from the same inputs."""
    made = train_here(spec)
    made.export(str(place))
    expected = load_checkpoint(str(place)).tensors
    found = load_checkpoint(f"{spec.folder}/{MODEL_FOLDER}").tensors
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), f"{spec.stage}: {name}"
