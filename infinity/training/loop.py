"""The loop: batches in, a trained state out, whatever is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.guard import GuardConfig, Skipped
from infinity.training.learner import BatchLoader, InterruptedTraining, LoopConfig, MicroBatch, NonFiniteLossError, Task
from infinity.training.meter import Meter
from infinity.training.optimizer import OptimizerConfig
from infinity.training.state import MetricRow, TrainState
from infinity.training.step import TrainStep

P = TypeVar("P", bound=MicroBatch)


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Who is called when something is due; each gets the state after the step.

    Attributes:
        log: After a row was added to the history.
        sample: To draw pictures.
        save: To store the state. All workers are called, since storing may be a joint act.
        rewind: To take over the last stored state, on all workers.
        note: To tell people of what should not happen.
        stop: Whether this worker was asked to stop; one of them is enough.
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
    learner: Task[P],
    feed: BatchLoader[P],
    config: LoopConfig,
    optimizer: OptimizerConfig,
    listeners: Callbacks,
    *,
    seed: int,
    team: ProcessGroup = ProcessGroup(),  # noqa: B008 - frozen
) -> None:
    """Advance ``state`` to ``config.num_steps``.

    The state of step 0 is stored before the first update: a place that cannot be written is found at once, and there is
    always something to go back to.

    Raises:
        NonFiniteLossError: More poison than ``config.guard`` bears; raised by all workers.
        InterruptedTraining: A worker was asked to stop; the state is stored.
        ValueError: More workers than parts of a batch.
    """
    if team.size > config.num_parts:
        raise ValueError(
            f"loop.num_parts: {team.size} workers need at least as many parts of a batch, got {config.num_parts}; a "
            "run goes on with at most as many workers as its batches have parts"
        )
    learner.module.train()
    update = TrainStep(state, learner, config, optimizer, seed, team)
    meter = Meter(update.device)
    if state.position == 0:
        listeners.save(state)
    while state.step < config.num_steps:
        if state.position in config.skip_batches or state.position in state.left_out:
            state.position += 1
            continue
        meter.start()
        parts = feed(state.position)
        meter.fed()
        measured = config.is_due(state.step + 1, config.log_every_steps)
        skipped = update(parts, measured, stop=listeners.stop())
        meter.stop(learner, parts, update.batch_size)
        if skipped is not None:
            deal_with(skipped, state, config.guard, listeners)
        elif not update.was_empty:
            _listen(state, learner, config, listeners, update.row, meter)
        if update.must_stop:
            listeners.save(state)
            raise InterruptedTraining(f"stopped as asked after step {state.step}; the same job goes on from there")


def deal_with(skipped: Skipped, state: TrainState, guard: GuardConfig, listeners: Callbacks) -> None:
    """Skip a batch, go back to the last stored state, or give up.

    Raises:
        NonFiniteLossError: The guard bears no more.
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
        listeners.note(f"skipped {seen}")
        return
    if state.rewinds >= guard.max_rewinds:
        raise NonFiniteLossError(
            f"{seen}. {state.skips_in_row} batches in a row were wrong, after {state.rewinds} returns to a checkpoint. "
            f"{_ADVICE}"
        )
    row = state.skipped[-state.skips_in_row :]
    skips, rewinds, was = list(state.skipped), state.rewinds + 1, state.step
    listeners.rewind(state)
    state.skipped, state.rewinds, state.skips_in_row = skips, rewinds, 0
    state.banned = sorted({*state.banned, *(name for each in row for name in each.samples)})
    state.left_out = sorted({*state.left_out, *(each.position for each in row if not each.samples)})
    listeners.note(
        f"went back from step {was} to step {state.step} after {len(row)} wrong batches in a row; left out from here "
        f"on: {', '.join([*state.banned[:8], *(f'batch {number}' for number in state.left_out[:8])])}. Last: {skipped}"
    )


def _listen(
    state: TrainState, learner: Task[P], config: LoopConfig, listeners: Callbacks, row: MetricRow | None, meter: Meter
) -> None:
    """Log, sample and store where it is due after a step."""
    if row is not None:
        row |= meter.figures(config.num_steps - state.step)
        state.history.append({"step": state.step, **row})
        listeners.log(state)
        learner.check(state.history)
    if config.is_due(state.step, config.sample_every_steps):
        listeners.sample(state)
    if config.is_due(state.step, config.save_every_steps):
        listeners.save(state)
