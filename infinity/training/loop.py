"""The training loop: read a batch, take a step, log, sample and save, for any task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.guard import GuardConfig, Skipped
from infinity.training.learner import BatchLoader, InterruptedTraining, LoopConfig, MicroBatch, NonFiniteLossError, Task
from infinity.training.meter import Meter
from infinity.training.optimizers.optimizer import OptimizerConfig
from infinity.training.state import MetricRow, TrainState
from infinity.training.step import TrainStep

P = TypeVar("P", bound=MicroBatch)


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Functions that the loop calls; each gets the state after the step.

    Attributes:
        log: Called after a row was added to the history.
        sample: Called to draw pictures.
        save: Called to store the state, on all workers, since sharded weights are stored together.
        rewind: Called to load the last stored state, on all workers.
        note: Called with a sentence for people when a batch was skipped or the run was rewound.
        stop: Returns whether this worker was asked to stop; one worker is enough to stop all.
    """

    log: Callable[[TrainState], None]
    sample: Callable[[TrainState], None]
    save: Callable[[TrainState], None]
    rewind: Callable[[TrainState], None]
    note: Callable[[str], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False


_ADVICE = (
    "Look at these samples, or lower the learning rate; loop.skip_batches leaves out batches by number, and a raised "
    "loop.guard.explosion lets larger losses pass"
)


def train(
    state: TrainState,
    task: Task[P],
    loader: BatchLoader[P],
    config: LoopConfig,
    optimizer: OptimizerConfig,
    callbacks: Callbacks,
    *,
    seed: int,
    group: ProcessGroup = ProcessGroup(),  # noqa: B008 - frozen
) -> None:
    """Advance ``state`` to ``config.num_steps``.

    The state of step 0 is stored before the first update, so that a folder that cannot be written is found at once and
    a rewind always finds a state.

    Raises:
        NonFiniteLossError: More bad batches than ``config.guard`` allows; raised by all workers.
        InterruptedTraining: A worker was asked to stop; the state is stored.
        ValueError: More workers than micro-batches of a batch.
    """
    if group.size > config.num_parts:
        raise ValueError(
            f"loop.num_parts: {group.size} workers need at least as many micro-batches of a batch, got "
            f"{config.num_parts}; start the run with at most {config.num_parts} workers"
        )
    task.module.train()
    update = TrainStep(state, task, config, optimizer, seed, group)
    meter = Meter(update.device)
    if state.position == 0:
        callbacks.save(state)
    while state.step < config.num_steps:
        if state.position in config.skip_batches or state.position in state.left_out:
            state.position += 1
            continue
        meter.start()
        micro_batches = loader(state.position)
        meter.data_ready()
        measured = config.is_due(state.step + 1, config.log_every_steps)
        skipped = update(micro_batches, measured, stop=callbacks.stop())
        meter.stop(task, micro_batches, update.batch_size)
        if skipped is not None:
            handle_skipped(skipped, state, config.guard, callbacks)
        elif not update.was_empty:
            _call_back(state, task, config, callbacks, update.row, meter)
        if update.must_stop:
            callbacks.save(state)
            raise InterruptedTraining(f"stopped as asked after step {state.step}; the same job goes on from there")


def handle_skipped(skipped: Skipped, state: TrainState, guard: GuardConfig, callbacks: Callbacks) -> None:
    """Skip a bad batch, rewind to the last stored state after several in a row, or give up (decision 27).

    Raises:
        NonFiniteLossError: More bad batches or rewinds than the guard allows.
    """
    state.skipped.append(skipped)
    state.position += 1
    state.skips_in_row += 1
    seen = f"{skipped} (the weights were not changed)"
    if len(state.skipped) > guard.max_skipped:
        raise NonFiniteLossError(
            f"{seen}. That is one more than the {guard.max_skipped} batches that may be skipped. {_ADVICE}"
        )
    if state.skips_in_row < guard.repeats:
        callbacks.note(f"skipped {seen}")
        return
    if state.rewinds >= guard.max_rewinds:
        raise NonFiniteLossError(
            f"{seen}. {state.skips_in_row} bad batches in a row, after {state.rewinds} returns to a checkpoint. "
            f"{_ADVICE}"
        )
    row = state.skipped[-state.skips_in_row :]
    skips, rewinds, was = list(state.skipped), state.rewinds + 1, state.step
    callbacks.rewind(state)
    state.skipped, state.rewinds, state.skips_in_row = skips, rewinds, 0
    state.excluded = sorted({*state.excluded, *(name for each in row for name in each.samples)})
    state.left_out = sorted({*state.left_out, *(each.position for each in row if not each.samples)})
    left_out = [*state.excluded[:8], *(f"batch {number}" for number in state.left_out[:8])]
    callbacks.note(
        f"went back from step {was} to step {state.step} after {len(row)} bad batches in a row; left out from here "
        f"on: {', '.join(left_out)}. Last: {skipped}"
    )


def _call_back(
    state: TrainState, task: Task[P], config: LoopConfig, callbacks: Callbacks, row: MetricRow | None, meter: Meter
) -> None:
    """Log, draw samples and save where the settings ask for it after this step."""
    if row is not None:
        row |= meter.figures(config.num_steps - state.step)
        state.history.append({"step": state.step, **row})
        callbacks.log(state)
        task.check(state.history)
    if config.is_due(state.step, config.sample_every_steps):
        callbacks.sample(state)
    if config.is_due(state.step, config.save_every_steps):
        callbacks.save(state)
