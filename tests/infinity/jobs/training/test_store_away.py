"""A training whose bucket refuses connections for a while goes on, and ends as a quiet one."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from infinity import storage
from infinity.checkpoint import load_checkpoint
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.spec import is_done, load_report
from infinity.jobs.training import driver as training_driver
from infinity.jobs.training.base import STATE_FOLDER, TrainReport
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.storage import StoreUnreachableError
from infinity.training.checkpoints import StateStore
from infinity.training.learner import TrainingError
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.faults.killing import Victim
from tests.fixtures.faults.relay import Relay
from tests.fixtures.jobs.training_sessions import LOOP, tokenizer_spec
from tests.fixtures.limits import AGES_S, wait_until
from tests.infinity.jobs.training.test_survival import End

logger = logging.getLogger(__name__)

ONE = WorkersConfig(num_workers=1, threads=1, max_failures=0)


def started(spec: TrainTokenizerSpec, folder: Path, *options: str) -> Victim:
    file = folder / "job.json"
    file.write_text(json.dumps(spec.to_file()))
    return Victim(["tests.fixtures.faults.job_chaos", str(file), *options], folder / "job.log")


@pytest.mark.slow
@pytest.mark.parametrize("away_s", [5.0, 60.0])
def test_a_bucket_that_is_away_in_a_training_costs_a_note_and_nothing_else(
    s3_server: str,
    s3_endpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    away_s: float,
    exhaustive: bool,
) -> None:
    if away_s > 5.0 and not exhaustive:
        pytest.skip("minutes; --exhaustive takes the bucket away for longer than all tries of its client")
    steps = 400 if exhaustive else 120
    loop = LOOP.replace(num_steps=steps, log_every_steps=10, save_every_steps=20, sample_every_steps=steps)
    spec = tokenizer_spec(f"{s3_server}/run", make_data(tmp_path), loop=loop, workers=ONE)
    with Relay(s3_endpoint) as relay:
        with monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL_S3", relay.url)
            job = started(spec, tmp_path, *(() if exhaustive else ["--here"]))
        try:
            store = StateStore(storage.join(spec.folder, STATE_FOLDER), background=False)
            wait_until(lambda: store.newest_step() >= 20 or job.has_ended, "a stored state", period_s=0.2)
            relay.close()
            time.sleep(away_s)
            relay.open()
            assert job.process.wait(timeout=AGES_S) == 0, job.log.read_text()[-3000:]
        finally:
            job.end()
    assert is_done(spec)
    report = load_report(spec, TrainReport)
    logger.warning("away for %.0f s: %s", away_s, report.notes)
    if away_s > 30.0:
        assert any("no connection to the S3 endpoint" in note and s3_server in note for note in report.notes)
        assert any("the store answers again" in note for note in report.notes)
    end = End.stored(storage.join(spec.folder, STATE_FOLDER, f"step-{loop.num_steps:08d}"))
    end.assert_equals(End.of_quiet_run(spec, tmp_path))


def test_a_save_that_fails_names_the_file_and_the_step_that_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infinity.training import checkpoints

    store = StateStore(str(tmp_path / "state"), background=False)
    store._write(10, {}, {})

    def away(folder: str, *_: object, **__: object) -> None:
        raise StoreUnreachableError(f"cannot write {folder}/state.safetensors: no connection")

    monkeypatch.setattr(checkpoints, "write_part", away)
    with pytest.raises(StoreUnreachableError) as caught:
        store._write(20, {}, {})
    said = str(caught.value)
    assert "step 20 could not be stored: cannot write" in said
    assert "step-00000020/state.safetensors" in said
    assert said.endswith("stored is step 10")
    assert load_checkpoint(store.folder(10)).config["step"] == 10


def test_a_clean_up_that_fails_hides_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def away(uri: str) -> None:
        raise StoreUnreachableError(f"cannot list {uri}: no connection")

    monkeypatch.setattr(storage, "delete_tree", away)
    training_driver._clean_up("s3://bucket/run/ray")
    assert "s3://bucket/run/ray is left behind" in caplog.text


def test_a_training_that_dies_before_its_first_step_has_not_got_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It stores the state of step 0 before the first step, and would be started twice for that."""
    found, started = iter([-1, 0, 0]), list[int]()

    def fit(*_: object) -> None:
        started.append(1)
        raise TrainingError("training stopped: no room")

    monkeypatch.setattr(StateStore, "newest_step", lambda _: next(found))
    monkeypatch.setattr(training_driver, "_fit", fit)
    with pytest.raises(TrainingError, match="no room"):
        training_driver._fit_while_it_gets_on(tokenizer_spec(tmp_path, "manifest.json"), {"fence": Mock()})
    assert len(started) == 1


def test_a_look_for_states_that_fails_hides_no_cause(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers = iter([7])

    def newest_step(store: StateStore) -> int:
        try:
            return next(answers)
        except StopIteration:
            raise StoreUnreachableError("cannot list s3://bucket/run/state: no connection") from None

    def fit(*_: object) -> None:
        raise TrainingError("training stopped: cannot write s3://bucket/run/state/step-00000020")

    monkeypatch.setattr(StateStore, "newest_step", newest_step)
    monkeypatch.setattr(training_driver, "_fit", fit)
    spec = tokenizer_spec(tmp_path, "manifest.json")
    with pytest.raises(TrainingError, match="cannot write s3://bucket/run/state/step-00000020"):
        training_driver._fit_while_it_gets_on(spec, {"fence": Mock()})
