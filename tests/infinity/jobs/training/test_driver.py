"""The driver of a training asks for the machines that its workers need, and says what it cannot have."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch

from infinity import storage
from infinity.data.dataset.manifest import Manifest
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.progress import Progress, silent
from infinity.jobs.registry import job_of
from infinity.jobs.spec import commit
from infinity.jobs.training import driver
from infinity.jobs.training import tokenizer as train_tokenizer
from infinity.jobs.training.base import TrainSpec
from infinity.jobs.training.transformer import build, make_state_and_task
from infinity.jobs.training.transformer_samples import drawable
from infinity.jobs.training.worker import sentence, work_on
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.distributed.sharding import shard
from infinity.training.learner import LoopConfig, TrainingError
from infinity.training.loaders.mixing import MixedResolution
from infinity.training.loaders.pictures import LoaderConfig
from infinity.training.transformer.engine import EngineConfig
from infinity.transformer.model import Transformer
from tests.fixtures.data.training_pictures import RESOLUTION, TOKENIZER, make_data
from tests.fixtures.jobs.process_groups import exit_codes
from tests.fixtures.jobs.training_sessions import LOOP, make_tokenizer, tokenizer_spec, transformer_spec
from tests.fixtures.models.tiny_transformer import random_transformer


def _loop(num_parts: int) -> LoopConfig:
    return LOOP.replace(batch_size=num_parts, num_parts=num_parts)


class AskedError(Exception):
    """Ends the driver where it would start Ray."""


@pytest.mark.parametrize(("num_workers", "threads"), [(1, 1), (200, 3), (3, 200)])
def test_ray_has_a_processor_for_every_thread_of_every_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int, threads: int
) -> None:
    """On this machine Ray counts processors by what it is told; too few, and the workers would wait for ever."""

    def asked(**options: Any) -> NoReturn:
        raise AskedError(options["num_cpus"])

    monkeypatch.setattr(driver, "connect", asked)
    workers = WorkersConfig(num_workers=num_workers, threads=threads)
    spec: TrainSpec = tokenizer_spec(tmp_path, "manifest.parquet", workers=workers, loop=_loop(num_workers))
    with pytest.raises(AskedError) as found:
        driver._train_on_ray(spec, None, None)  # type: ignore[arg-type]  # neither is reached
    assert found.value.args == (max(num_workers * threads, os.cpu_count() or 1),)


@pytest.mark.parametrize("num_workers", [2, 5])
def test_a_training_in_this_process_has_one_worker(tmp_path: Path, num_workers: int) -> None:
    workers = WorkersConfig(num_workers=num_workers)
    spec = tokenizer_spec(tmp_path, "manifest.parquet", workers=workers, loop=_loop(num_workers))
    with pytest.raises(TrainingError, match=f"has one worker, the spec asks for {num_workers}"):
        driver._train_here(spec, None, None)  # type: ignore[arg-type]  # neither is reached


@pytest.mark.parametrize("kind", ["tokenizer", "transformer"])
def test_a_training_that_is_done_is_not_looked_at_again(tmp_path: Path, kind: str) -> None:
    """Neither data set nor tokenizer need to be there any more; what it came to is read back."""
    spec: Any = tokenizer_spec(tmp_path, "gone.parquet")
    if kind == "transformer":
        spec = transformer_spec(tmp_path, "gone.parquet", "gone")
    outcome = {"metrics": "metrics.jsonl", "final": {"loss": 0.5}, "captions": (), "rows": (), "num_parameters": 7}
    report = commit(spec, driver.training_report(spec, "Training", outcome | {"notes": ["a note"]}, 3.0))
    assert job_of(kind).run(spec, progress=silent) == report


def test_what_a_spec_leaves_out_is_what_it_always_was(tmp_path: Path) -> None:
    """A spec file without a field must find the folder that it found before."""
    spec = transformer_spec(tmp_path, "m", "t")
    fields = spec.to_json()
    assert {fields.pop(name) for name in ("recompute", "flips_only")} == {False}
    assert type(spec).from_json(fields).digest() == spec.digest()


@pytest.mark.parametrize("asked", [False, True])
def test_products_are_in_bfloat16_on_a_processor_where_that_is_asked_for(tmp_path: Path, asked: bool) -> None:
    spec = transformer_spec(tmp_path, "m", "t", engine=EngineConfig(bfloat16=asked))
    _, task = make_state_and_task(spec, Transformer(spec.model), TOKENIZER, ProcessGroup(), torch.device("cpu"))
    assert task.bfloat16 is asked


def test_the_line_of_a_step_says_how_long_the_rest_takes() -> None:
    row = {"step": 30, "loss": 0.51234, "bit_accuracy": 0.75, "pictures_per_s": 12.4, "rest_s": 630.0}
    assert sentence(row, 1000) == "step 30 of 1000, loss 0.5123, bit accuracy 0.750, 12 pictures/s, about 10 min to go"


def _draws_whole(group: ProcessGroup) -> None:
    model, expected = random_transformer(), random_transformer().state_dict()
    shard(model, group, torch.device("cpu"))
    with drawable(model, None, group) as copy:
        assert (copy is not None) == group.leads
        for name, weight in () if copy is None else copy.state_dict().items():
            assert torch.equal(weight, expected[name]), name


def test_a_sharded_model_is_drawn_by_a_whole_copy_in_the_first_worker(tmp_path: Path) -> None:
    assert exit_codes(2, _draws_whole, tmp_path / "meeting") == [0, 0]


@pytest.mark.parametrize(("resolutions", "num_steps"), [(1, 5), (2, 3), (3, 2)])
def test_every_step_of_a_run_is_prefetched_and_none_beyond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resolutions: int, num_steps: int
) -> None:
    """Five steps are divided among the resolutions; a loader that ends too early would read while the model waits."""
    made: list[LoaderConfig] = []
    monkeypatch.setattr(train_tokenizer, "PictureLoader", lambda config, _stride: made.append(config))
    mixed = tuple(MixedResolution(resolution=RESOLUTION, batch_size=2) for _ in range(resolutions))
    loop = LOOP.replace(num_steps=5, batch_size=2)
    spec = tokenizer_spec(tmp_path, make_data(tmp_path), mixed=mixed if resolutions > 1 else (), loop=loop)
    train_tokenizer._loader(spec, Manifest.load(spec.manifest), ProcessGroup())
    assert [config.num_steps for config in made] == [num_steps] * resolutions


def test_the_progress_of_a_beginning_training_begins_at_nothing_and_never_falls(tmp_path: Path) -> None:
    manifest = make_data(tmp_path)
    spec = transformer_spec(tmp_path, manifest, make_tokenizer(tmp_path, manifest, num_steps=1))
    shares: list[float] = []
    build(spec, ProcessGroup(), torch.device("cpu"), lambda share, _message: shares.append(share))
    assert shares[0] == 0.0
    assert shares == sorted(shares)


def test_waiting_for_the_store_is_told_and_is_no_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[Any] = []

    def patient(_seconds: float, note: Any) -> NoReturn:
        notes.append(note)
        raise AskedError

    monkeypatch.setattr(storage, "patient", patient)
    threads = torch.get_num_threads()
    told: list[Progress] = []
    spec = tokenizer_spec(tmp_path, "manifest.parquet")
    fence = SimpleNamespace(folder=str(tmp_path))  # nothing is written
    try:
        with pytest.raises(AskedError):
            work_on({"spec": spec, "sink": told.append, "fence": fence}, ProcessGroup(), torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)
    notes[0]("the store is away")
    assert told == [Progress(0.0, "the store is away")]
