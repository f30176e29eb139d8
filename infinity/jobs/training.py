"""One training on Ray Train: workers that share a batch, checkpoints that a killed worker or driver goes on from.

What is trained comes from the two jobs ``train_tokenizer`` and ``train_transformer``; everything else is the same.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch

from infinity import storage
from infinity.config import Config
from infinity.data.augment import AugmentConfig
from infinity.data.shuffle import OrderConfig
from infinity.data.stored import ReadingConfig
from infinity.jobs.cluster import connect
from infinity.jobs.progress import Progress, ProgressSink, relayed
from infinity.jobs.spec import JobReport, JobSpec, begin, commit
from infinity.jobs.stopping import StopSign, stopping_on_signal
from infinity.reporting.bands import judge
from infinity.reporting.summary import Sheet, TrainingSummary
from infinity.scales import Resolution
from infinity.training.checkpoints import LostStateError, StateStore
from infinity.training.collapse import CollapseError
from infinity.training.ema import Ema
from infinity.training.loop import (
    Feed,
    InterruptedTraining,
    Learner,
    LoopConfig,
    NonFiniteLossError,
    Part,
    TrainingError,
)
from infinity.training.metrics import MetricsWriter
from infinity.training.optimizer import OptimizerConfig
from infinity.training.parallel import Team
from infinity.training.state import Row, TrainState
from infinity.training.train import Listeners, train

logger = logging.getLogger(__name__)

MODEL_FOLDER, SAMPLES_FOLDER, STATE_FOLDER, RAY_FOLDER = "model", "samples", "state", "ray"
PREPARATION = 0.05
"""Share of the progress that loading and encoding get."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkersConfig(Config):
    """Who trains.

    Attributes:
        num_workers: Processes that share every batch.
        threads: CPU threads of each, and the CPUs that it takes from the cluster.
        shard: Share out the weights of a transformer, its averages and running means among the workers (FSDP2) instead
            of copying them; a tokenizer is small and always copied.
        use_gpu: Give each worker a GPU; matrix products of the transformer are bfloat16 then.
        max_failures: How often dead workers are replaced, without a newer stored state in between, before the job
            fails.
    """

    num_workers: int = 1
    threads: int = 2
    use_gpu: bool = False
    shard: bool = False
    max_failures: int = 2

    def __post_init__(self) -> None:
        if self.num_workers < 1 or self.threads < 1 or self.max_failures < 0:
            raise ValueError(
                "WorkersConfig: expected at least one worker and one thread and no negative max_failures, got "
                f"{self.num_workers}, {self.threads} and {self.max_failures}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainReport(JobReport):
    """What a training made.

    Attributes:
        model: URI of the folder with the averaged weights (or the last, without averaging).
        training: For the report page.
        seconds: From start to end of the job, or of its last part where it was interrupted.
        notes: What should not have happened, for people: damaged states that were passed over, batches that were
            skipped, returns to a checkpoint.
    """

    model: str
    training: TrainingSummary
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSpec(JobSpec):
    """What the specs of both trainings have.

    Attributes:
        manifest: URI of the data set's manifest.
        resolution: Grids of every aspect ratio; with the tokenizer's stride they set the size of the pictures.
        optimizer: AdamW and its learning rate.
        loop: How long and how often.
        workers: Who trains.
        order: How pictures are mixed.
        augment: What is drawn for a picture at each visit.
        reading: How pictures reach the workers; changes nothing about the model.
        seed: Of weights, order of pictures and all draws.
        stage: Slug of the stage in reports, such as "tokenizer", "pretrain" or "finetune".
    """

    elsewhere: ClassVar[frozenset[str]] = JobSpec.elsewhere | {"reading"}

    manifest: str
    resolution: Resolution
    optimizer: OptimizerConfig
    loop: LoopConfig
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    order: OrderConfig = field(default_factory=OrderConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    seed: int = 0
    stage: str = "train"


P = TypeVar("P", bound=Part)


@dataclass(frozen=True, slots=True)
class Samples:
    """A sheet of pictures as PNG bytes, what its rows show, and a caption a column where it needs one."""

    png: bytes
    captions: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Session(Generic[P]):
    """A training made ready in one worker.

    Attributes:
        state: At step 0.
        learner: What is trained, with its loss.
        feed: The worker's batches.
        draw: Sample pictures of the present state; called in the first worker only, unless joint.
        export: Write the model folder; called in the first worker only, unless joint.
        joint: Whether no worker holds all weights, so that drawing and exporting take them all.
        ready: Called in every worker when the state is the one that the run goes on from, with a listener to what
            people should know of it.
    """

    state: TrainState
    learner: Learner[P]
    feed: Feed[P]
    draw: Callable[[], Samples]
    export: Callable[[str], None]
    joint: bool = False
    ready: Callable[[Callable[[str], None]], None] = lambda _: None


Told = Callable[[float, str], None]
Build = Callable[[Any, Team, torch.device, Told], "Session[Any]"]
"""Makes a session from the spec, the team, the device, and a listener to the preparation; a function of a module."""

_STOPS: dict[str, type[TrainingError]] = {
    c.__name__: c for c in (NonFiniteLossError, CollapseError, InterruptedTraining, LostStateError, TrainingError)
}


def run_training(spec: TrainSpec, build: Build, title: str, progress: ProgressSink) -> TrainReport:
    """Train on the connected cluster, or on a local one for the time it takes.

    Args:
        spec: A checked spec of either kind that is not done.
        build: Makes the session in every worker.
        title: Words for people.
        progress: Who listens.

    Raises:
        ValueError: More workers than parts of a batch.
        NonFiniteLossError: More losses were not finite, or far too large, than ``loop.guard`` bears.
        CollapseError: A tokenizer has collapsed.
        InterruptedTraining: This process got a SIGTERM; the state is stored.
        LostStateError: No stored state of a run that has done steps can be loaded.
        TrainingError: Workers died more often than allowed, or raised something else.
    """
    started = time.monotonic()
    folder = begin(spec)
    workers = spec.workers
    if workers.num_workers > spec.loop.num_parts:
        raise ValueError(
            f"loop.num_parts: {workers.num_workers} workers need batches of at least as many parts, got "
            f"{spec.loop.num_parts}"
        )
    progress(Progress(0.0, "starting workers"))
    with connect(num_cpus=max(os.cpu_count() or 1, workers.num_workers * workers.threads)):
        _check_resources(workers)
        with relayed(progress) as sink, stopping_on_signal() as stop:
            outcome = _fit_while_it_gets_on(spec, {"spec": spec, "build": build, "sink": sink, "stop": stop})
    if "stopped" in outcome:
        raise _STOPS[outcome["stopped"]](outcome["message"])
    training = TrainingSummary(
        stage=spec.stage,
        title=title,
        metrics=outcome["metrics"],
        final=outcome["final"],
        samples=_sheets(folder, spec.loop.num_steps, outcome["captions"]),
        num_parameters=outcome["num_parameters"],
        num_steps=spec.loop.num_steps,
        rows=outcome["rows"],
    )
    report = TrainReport(
        model=storage.join(folder, MODEL_FOLDER),
        training=training,
        seconds=round(time.monotonic() - started, 2),
        notes=tuple(outcome["notes"]),
    )
    commit(spec, report)
    progress(Progress(1.0, "trained"))
    return report


def weightings(ema: Ema | None) -> tuple[tuple[Ema | None, str], ...]:
    """With which weights sample pictures are drawn, and their names: the averaged ones, if any, and the last ones."""
    last: tuple[Ema | None, str] = (None, "the last weights")
    return (last,) if ema is None else ((ema, "averaged weights"), last)


def _check_resources(workers: WorkersConfig) -> None:
    """Refuse what the cluster can never give; Ray would wait for it without end."""
    import ray

    have = ray.cluster_resources()
    wanted = {"CPU": workers.num_workers * workers.threads, "GPU": workers.num_workers * workers.use_gpu}
    for name, number in wanted.items():
        if number > have.get(name, 0):
            raise TrainingError(
                f"training wants {number} {name}s ({workers.num_workers} workers), the Ray cluster has "
                f"{have.get(name, 0):.0f}; change workers.num_workers, workers.threads or workers.use_gpu"
            )


def _fit_while_it_gets_on(spec: TrainSpec, task: dict[str, Any]) -> dict[str, Any]:
    """Replace dead workers as long as a newer state was stored since others died.

    Raises:
        TrainingError: Workers died more often than allowed without getting on.
    """
    store = StateStore(storage.join(spec.folder, STATE_FOLDER), background=False)
    before = store.newest_step()
    while True:
        try:
            return _fit(spec, task)
        except TrainingError:
            if (now := store.newest_step()) <= before:
                raise
            logger.warning("workers died too often, but the run got on from step %d to %d; going on", before, now)
            before = now


def _fit(spec: TrainSpec, task: dict[str, Any]) -> dict[str, Any]:
    """Run the workers, which find their own stored states; Ray Train replaces those that die."""
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    workers = spec.workers
    scratch = storage.join(spec.folder, RAY_FOLDER)
    path, filesystem = _ray_storage(scratch)
    trainer = TorchTrainer(
        _work,
        train_loop_config=task,
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if workers.use_gpu else "cpu:gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.use_gpu,
            resources_per_worker={"CPU": workers.threads} | ({"GPU": 1} if workers.use_gpu else {}),
        ),
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
        storage.delete_tree(scratch)
    assert outcome is not None, "the first worker returns its outcome"
    return outcome


def _first_cause(error: Exception) -> str:
    """The error of the first worker that failed by itself, in one line."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    text = str(failures[min(failures)]).strip()
    return text.splitlines()[-1] if text else type(error).__name__


def _ray_storage(uri: str) -> tuple[str, Any]:
    """Place and filesystem as Ray Train wants them: it takes buckets through pyarrow."""
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
    """Every sheet of the run, also of the parts before an interruption."""
    found = []
    for uri in storage.list_files(storage.join(folder, SAMPLES_FOLDER)):
        step = int(storage.name(uri).removeprefix("step-").removesuffix(".png"))
        if step <= num_steps:
            found.append(Sheet(image=uri, title=f"step {step}", captions=captions))
    return tuple(found)


# --- In a worker -----------------------------------------------------------------------------------------------------


def _work(task: dict[str, Any]) -> dict[str, Any]:
    """What every worker does; the return value of the first one is the outcome of the training."""
    import ray.train.torch

    spec, team, sink = task["spec"], Team.current(), task["sink"]
    torch.set_num_threads(spec.workers.threads)
    device: torch.device = ray.train.torch.get_device()

    def tell(share: float, message: str) -> None:
        if team.leads:
            sink(Progress(min(1.0, share), message))

    try:
        session: Session[Any] = task["build"](spec, team, device, lambda s, m: tell(PREPARATION * s, m))
        return _train(spec, session, team, tell, task["stop"])
    except TrainingError as error:
        # All workers stop at the same place, for a reason that a restart would meet again.
        kind = type(error).__name__
        return {"stopped": kind if kind in _STOPS else TrainingError.__name__, "message": str(error)}


def _train(spec: TrainSpec, session: Session[Any], team: Team, tell: Told, stop: StopSign) -> dict[str, Any]:
    state, folder, config = session.state, spec.folder, spec.loop

    def note(text: str) -> None:
        state.notes.append(text)
        logger.warning("%s", text)
        tell(_share(state, config), text)

    with _states(spec, team) as store:
        resume(state, store, team, note)
        session.ready(note)
        samples = _advance(spec, session, team, store, Voice(tell, note, stop))
    if team.leads or session.joint:
        session.export(storage.join(folder, MODEL_FOLDER))
        samples = samples or session.draw()
    if not team.leads:
        return {}
    return {
        "metrics": storage.join(folder, "metrics.jsonl"),
        "final": {name: value for name, value in state.history[-1].items() if name != "step"},
        "captions": samples.captions if samples else (),
        "rows": samples.rows if samples else (),
        "num_parameters": sum(weight.numel() for weight in session.learner.module.parameters()),
        "notes": state.notes,
    }


@dataclass(frozen=True, slots=True)
class Voice:
    """How a worker and the people before the run page hear of each other.

    Attributes:
        tell: Progress, from the first worker.
        note: What should not happen.
        stop: Whether the driver wants the training to stop.
    """

    tell: Told
    note: Callable[[str], None]
    stop: Callable[[], bool]


def _share(state: TrainState, config: LoopConfig) -> float:
    return PREPARATION + (1.0 - PREPARATION) * state.step / config.num_steps


def _advance(spec: TrainSpec, session: Session[Any], team: Team, store: StateStore, voice: Voice) -> Samples | None:
    """Train to the end; the last sheet of samples, if one was drawn."""
    state, folder, config = session.state, spec.folder, spec.loop
    drawn: Samples | None = None
    with _metrics_writer(team, folder, state) as write:

        def log(now: TrainState) -> None:
            write(now)
            voice.tell(_share(now, config), sentence(now.history[-1], config.num_steps))

        def sample(now: TrainState) -> None:
            nonlocal drawn
            samples = session.draw() if team.leads or session.joint else None
            if samples is not None and team.leads:
                drawn = samples
                storage.write_bytes(storage.join(folder, SAMPLES_FOLDER, f"step-{now.step:08d}.png"), samples.png)

        def save(now: TrainState) -> None:
            if team.leads:
                store.save(now)
            elif session.joint:
                for _ in now.tensors():
                    pass  # gathered by all, written by the first

        train(
            state,
            session.learner,
            session.feed,
            config,
            spec.optimizer,
            Listeners(
                log=log,
                sample=sample,
                save=save,
                rewind=lambda now: resume(now, store, team, voice.note),
                note=voice.note,
                stop=voice.stop if team.leads else lambda: False,
            ),
            seed=spec.seed,
            team=team,
        )
    return drawn


def sentence(row: Row, num_steps: int) -> str:
    """A logged step for people; after a quarter of the steps with a word about figures that are not as they should be.

    Before that every training looks broken.
    """
    words = [f"step {row['step']} of {num_steps}", f"loss {row['loss']:.4f}"]
    if "bit_accuracy" in row:
        words.append(f"bit accuracy {row['bit_accuracy']:.3f}")
    if "psnr_db" in row:
        words.append(f"PSNR {row['psnr_db']:.1f} dB")
    if row["step"] >= num_steps / 4:
        for name, value in row.items():
            band = judge(name, value)
            if band is not None and band.verdict == "broken":
                words.append(f"{name.replace('_', ' ')} {value:.2g}: {band.text}")
    words += [f"{row['pictures_per_s']:.0f} pictures/s", f"about {row['rest_s'] / 60:.0f} min to go"]
    return ", ".join(words)


@contextmanager
def _states(spec: TrainSpec, team: Team) -> Iterator[StateStore]:
    store = StateStore(storage.join(spec.folder, STATE_FOLDER))
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _metrics_writer(team: Team, folder: str, state: TrainState) -> Iterator[Callable[[TrainState], None]]:
    if not team.leads:
        yield lambda _state: None
        return
    with MetricsWriter(folder, first_step=state.step) as writer:
        yield lambda now: writer.write(now.history)


def resume(state: TrainState, store: StateStore, team: Team, note: Callable[[str], None]) -> None:
    """Go on from the newest stored state that is whole, if there is one: the same on all workers.

    Raises:
        LostStateError: There are states, but none can be loaded.
    """
    found: tuple[str | None, str | None] = (None, None)
    notes: tuple[str, ...] = ()
    if team.leads:
        try:
            newest, notes = store.newest()
            found = (None if newest is None else newest.uri, None)
        except LostStateError as error:
            found = (None, str(error))
    uri, lost = team.gather(found)[0]
    if lost is not None:
        raise LostStateError(lost)
    if uri is not None:
        said = state.notes
        store.restore(state, uri)
        state.notes = [*state.notes, *(text for text in said if text not in state.notes)]
        logger.info("resumed at step %d", state.step)
    for text in notes:
        note(text)
