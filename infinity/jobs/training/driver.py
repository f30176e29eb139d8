"""Driver of a training on Ray Train: it starts the workers, replaces dead ones, and resumes from stored states."""

from __future__ import annotations

import logging
import os
import re
import time
import uuid
from typing import Any

import torch

from infinity import storage
from infinity.jobs.cluster.connection import connect, is_in_process
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.ownership import Tenure, once
from infinity.jobs.progress import Progress, ProgressSink, relayed
from infinity.jobs.spec import begin, commit
from infinity.jobs.training.addresses import torch_config
from infinity.jobs.training.base import (
    MODEL_FOLDER,
    RAY_FOLDER,
    SAMPLES_FOLDER,
    STATE_FOLDER,
    Build,
    TrainReport,
    TrainSpec,
    step_of_sheet,
)
from infinity.jobs.training.elastic import elastic_policy, scaling
from infinity.jobs.training.stopping import stopping_here, stopping_on_signal
from infinity.jobs.training.worker import STOPS, work, work_on
from infinity.reporting.summary import Sheet, TrainingSummary
from infinity.training.checkpoints import StateStore
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.learner import InterruptedTraining, TrainingError

logger = logging.getLogger(__name__)


def run_training(spec: TrainSpec, build: Build, title: str, progress: ProgressSink) -> TrainReport:
    """Train on the connected cluster, or on a local one for the time it takes.

    Inside `in_process` one worker trains in this process, without Ray; what fails is then not tried again.

    Args:
        spec: Checked spec of either training that is not done.
        build: Function that builds the session in every worker.
        title: Title of the stage in the report.

    Raises:
        NonFiniteLossError: More losses were not finite, or far too large, than ``loop.guard`` bears.
        CollapseError: A tokenizer has collapsed.
        InterruptedTraining: This process got a SIGTERM; the state is stored.
        KeyboardInterrupt: This process got a SIGINT; the state is stored.
        LostStateError: No stored state of a run that has done steps can be loaded.
        LeaseLostError: This process was silent for too long, and another one trains on.
        TrainingError: Workers died more often than allowed, or raised something else.
    """
    return once(spec, TrainReport, lambda tenure: _run(spec, build, title, tenure), progress)


def _run(spec: TrainSpec, build: Build, title: str, tenure: Tenure) -> TrainReport:
    started, progress = time.monotonic(), tenure.progress
    folder = begin(spec)
    progress(Progress(0.0, "starting workers"))
    outcome = (_train_here if is_in_process() else _train_on_ray)(spec, build, tenure)
    _clean_up(storage.join(folder, RAY_FOLDER))  # also what drivers left that were killed
    if "stopped" in outcome:
        raise STOPS[outcome["stopped"]](outcome["message"])
    report = commit(spec, training_report(spec, title, outcome, time.monotonic() - started))
    progress(Progress(1.0, "trained"))
    return report


def _train_on_ray(spec: TrainSpec, build: Build, tenure: Tenure) -> dict[str, Any]:
    workers = spec.workers
    with connect(num_cpus=max(os.cpu_count() or 1, workers.fewest * workers.threads)):
        _check_resources(workers)
        with relayed(tenure.progress) as sink, stopping_on_signal(tenure.lost) as stop:
            task = {"spec": spec, "build": build, "sink": sink, "stop": stop, "fence": tenure.fence}
            return _fit_while_it_gets_on(spec, task)


def _train_here(spec: TrainSpec, build: Build, tenure: Tenure) -> dict[str, Any]:
    workers, threads = spec.workers, torch.get_num_threads()
    if workers.fewest != 1:
        raise TrainingError(
            f"a training in this process has one worker, the spec asks for {workers.fewest}; "
            "set workers.num_workers to 1, or train on Ray"
        )
    spec = spec.replace(workers=workers.replace(num_workers=1, min_workers=None))
    device = torch.device("cuda" if workers.use_gpu else "cpu")
    with stopping_here(tenure.lost) as stop:
        task = {"spec": spec, "build": build, "sink": tenure.progress, "stop": stop, "fence": tenure.fence}
        try:
            return work_on(task, ProcessGroup(), device)
        finally:
            torch.set_num_threads(threads)


def training_report(spec: TrainSpec, title: str, outcome: dict[str, Any], seconds: float) -> TrainReport:
    """Return the report of a training from what its first worker returned."""
    training = TrainingSummary(
        stage=spec.stage,
        title=title,
        metrics=outcome["metrics"],
        final=outcome["final"],
        samples=_sheets(spec.folder, spec.loop.num_steps, outcome["captions"]),
        num_parameters=outcome["num_parameters"],
        num_steps=spec.loop.num_steps,
        rows=outcome["rows"],
    )
    return TrainReport(
        model=storage.join(spec.folder, MODEL_FOLDER),
        training=training,
        seconds=round(seconds, 2),
        notes=tuple(outcome["notes"]),
    )


def _check_resources(workers: WorkersConfig) -> None:
    """Refuse resources that the cluster does not have; Ray would wait for them without end."""
    import ray

    have = ray.cluster_resources()
    wanted = {"CPU": workers.fewest * workers.threads, "GPU": workers.fewest * workers.use_gpu}
    for name, number in wanted.items():
        if number > have.get(name, 0):
            raise TrainingError(
                f"training wants {number} {name}s ({workers.fewest} workers), the Ray cluster has "
                f"{have.get(name, 0):.0f}; change workers.num_workers, workers.threads or workers.use_gpu"
            )


def _fit_while_it_gets_on(spec: TrainSpec, task: dict[str, Any]) -> dict[str, Any]:
    """Replace dead workers as long as a newer state was stored since others died, and paused ones by more.

    Raises:
        TrainingError: Workers died more often than allowed without getting on.
    """
    store = StateStore(storage.join(spec.folder, STATE_FOLDER), background=False)
    before = max(0, store.newest_step())  # storing step 0 is no progress
    while True:
        try:
            outcome = _fit(spec, task)
            if outcome.get("stopped") != InterruptedTraining.__name__ or not task["stop"].was_pause():
                return outcome
            logger.info("%s; the workers are started again", outcome["message"])
        except TrainingError as error:
            try:
                task["fence"].check()
                now = store.newest_step()
            except storage.LeaseLostError:
                raise
            except storage.StorageError:  # what stopped the workers is to be heard, not this
                raise error from None
            if now <= before:
                raise
            logger.warning("workers died too often, but the run got on from step %d to %d; going on", before, now)
            before = now


def _fit(spec: TrainSpec, task: dict[str, Any]) -> dict[str, Any]:
    """Run the workers, which find their own stored states; Ray Train replaces those that die."""
    from ray.train import FailureConfig, LoggingConfig, RunConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    class Trainer(TorchTrainer):  # type: ignore[misc]  # it comes without types
        def _register_sigint_handler(self, controller: Any) -> None:
            """Leave Ctrl-C to `stopping_on_signal`: Ray's handler ends the workers with all since the last state.

            It would also stay after the training, and end later stages of this process without a word.
            """

        def _initialize_and_run_controller(self, **given: Any) -> Any:
            if workers.is_elastic:
                given["scaling_policy"] = elastic_policy(self.scaling_config, task["stop"], task["sink"])
            return super()._initialize_and_run_controller(**given)

    workers = spec.workers
    scratch = storage.join(spec.folder, RAY_FOLDER, f"owner-{task['fence'].token}")
    path, filesystem = _ray_storage(scratch)
    trainer = Trainer(
        work,
        train_loop_config=task,
        torch_config=torch_config("cpu:gloo,cuda:nccl" if workers.use_gpu else "cpu:gloo"),
        scaling_config=scaling(workers),
        run_config=RunConfig(
            name=f"fit-{uuid.uuid4().hex}",
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=workers.max_failures),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        outcome: dict[str, Any] | None = trainer.fit().return_value
    except TrainingFailedError as error:
        raise TrainingError(f"training stopped: {_first_cause(error)}") from error
    finally:
        _clean_up(scratch)
    assert outcome is not None, "the first worker returns its outcome"
    return outcome


def _clean_up(scratch: str) -> None:
    """Delete what Ray Train left; a store that is away must not hide why the workers stopped."""
    try:
        with storage.patient(0.0):
            storage.delete_tree(scratch)
    except storage.StorageError as error:
        logger.warning("%s is left behind: %s", scratch, error)


def _first_cause(error: Exception) -> str:
    """Return the error, in one line, of the first worker that failed by itself, not one that lost its connection."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    texts = {rank: str(failure).strip() for rank, failure in failures.items()}
    first = min(texts, key=lambda rank: (_LOST_TOUCH.search(texts[rank]) is not None, rank))
    return texts[first].splitlines()[-1] if texts[first] else type(error).__name__


_LOST_TOUCH = re.compile(r"gloo/transport|connection (closed|reset)|NCCL|ncclRemoteError", re.IGNORECASE)
"""Errors of a worker that lost its connection to a dead one."""


def _ray_storage(uri: str) -> tuple[str, Any]:
    """Return path and filesystem in Ray Train's form, which accesses S3 through pyarrow."""
    local = storage.local_path(uri)
    if local is not None:
        return str(local.absolute()), None
    from pyarrow.fs import S3FileSystem

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    scheme, _, host = endpoint.rpartition("://")
    options: dict[str, Any] = {"endpoint_override": host, "scheme": scheme or "https"} if endpoint else {}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return uri.removeprefix("s3://"), S3FileSystem(region=region, **options)


def _sheets(folder: str, num_steps: int, captions: tuple[str, ...]) -> tuple[Sheet, ...]:
    """Return every sheet of the run, also of sessions before an interruption."""
    found = []
    for uri in storage.list_files(storage.join(folder, SAMPLES_FOLDER)):
        if (step := step_of_sheet(uri)) is not None and step <= num_steps:
            found.append(Sheet(image=uri, title=f"step {step}", captions=captions))
    return tuple(found)
