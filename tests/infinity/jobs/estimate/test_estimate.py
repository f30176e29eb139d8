"""Estimates follow what they are asked about; `benchmarks.training.estimate` compares them with real processes."""

import numpy as np
import pytest

from infinity.jobs.estimate.estimate import Assumptions, Calibration, Estimate, _frozen, calibrate, estimate, seconds_at
from infinity.jobs.estimate.rehearsal import Load
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.presets import tokenizer_preset
from infinity.recipes.paper_transformer import TransformerInputs, paper_stages
from infinity.recipes.runs import end_to_end

MINI = end_to_end("mini", source=None, output="runs")
SHAPE = MINI.tokenizer.model


def of(spec: TrainTransformerSpec, **assumed: object) -> Estimate:
    return estimate(spec, Assumptions(**assumed), tokenizer=SHAPE)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain() -> Estimate:
    """Of the mini recipe's pretraining."""
    return of(MINI.pretrain)


def test_what_is_held_is_counted_exactly(plain: Estimate) -> None:
    parameters = plain.weights // 4
    assert plain.weights == plain.gradients == plain.average == 4 * parameters
    assert plain.optimizer == pytest.approx(2 * plain.weights, rel=0.01)  # and a count of steps for each tensor
    assert plain.logits == 8 * 21 * 2 * 8 * 4  # pictures, tokens, bits of two logits
    assert plain.activations > plain.logits


def test_switches_save_what_they_are_for(plain: Estimate, exhaustive: bool) -> None:
    spec = MINI.pretrain
    again = of(spec.replace(recompute=True), flops_per_s=1e9)
    assert again.activations < 0.8 * plain.activations  # two blocks: the head and one block stay
    assert again.seconds_per_step == pytest.approx(4 / 3 * plain.flops_per_step / 1e9)
    if not exhaustive:
        return  # every estimate takes seconds
    assert of(spec.replace(num_scales=2)).activations < 0.7 * plain.activations
    assert of(spec.replace(loop=spec.loop.replace(num_parts=4))).activations < 0.6 * plain.activations
    assert of(spec.replace(loop=spec.loop.replace(ema_decay=None))).average == 0


def test_weights_that_are_shared_out_are_divided_and_those_that_wait_are_elsewhere(
    plain: Estimate, exhaustive: bool
) -> None:
    if not exhaustive:
        pytest.skip("two more estimates; runs with --exhaustive")
    workers = MINI.pretrain.workers.replace(num_workers=2, shard=True)
    loop = MINI.pretrain.loop.replace(num_parts=2)
    shared = of(MINI.pretrain.replace(workers=workers, loop=loop))
    assert shared.weights == pytest.approx(plain.weights / 2, rel=0.01)
    assert shared.optimizer == pytest.approx(plain.optimizer / 2, rel=0.01)
    waiting = of(MINI.pretrain.replace(workers=workers.replace(offload=True), loop=loop))
    assert waiting.weights == waiting.optimizer == 0
    assert waiting.saving > shared.saving


def test_a_tokenizer_is_traced_too() -> None:
    found = estimate(
        MINI.tokenizer, calibration=Calibration(process=10**8, seconds_per_step=0.5, processor_seconds=0.4)
    )
    assert found.process == 10**8
    assert found.seconds_per_step == 0.5
    assert seconds_at(MINI.tokenizer, 1e10) == pytest.approx(found.flops_per_step / 1e10)
    assert found.total_bytes > found.device_bytes > found.process + found.weights


def test_holes_of_the_heap_grow_with_what_is_alive() -> None:
    calibration = Calibration(process=10**8, seconds_per_step=0.5, processor_seconds=0.4)
    tight, holes = (estimate(MINI.tokenizer, calibration=calibration.replace(heap=heap)) for heap in (1.0, 1.25))
    alive = tight.device_bytes - tight.process - tight.frozen
    assert holes.process - tight.process == pytest.approx(0.25 * alive, rel=0.2)  # frozen networks may count in part


@pytest.mark.slow
def test_a_calibration_measures_a_process_and_its_heap() -> None:
    """How near it comes is for `benchmarks.training.estimate`: other programs disturb seconds."""
    other = np.ones(2**27)  # a gigabyte of the process that asks, which is none of the training's
    found = calibrate(MINI.tokenizer)
    assert other.all()
    assert 5e7 < found.process < 1e9, "Python with torch takes some hundred MB"
    assert 1.0 <= found.heap <= 1.5
    assert found.processor_seconds > 0


def test_seconds_without_the_memory_are_those_of_the_estimate(plain: Estimate) -> None:
    assert seconds_at(MINI.pretrain, 1e9) == pytest.approx(plain.flops_per_step / 1e9)
    assert seconds_at(MINI.pretrain.replace(recompute=True), 1e9) == pytest.approx(4 / 3 * plain.flops_per_step / 1e9)


def test_seconds_are_not_guessed(plain: Estimate) -> None:
    assert plain.seconds_per_step is None


def test_cached_features_and_frozen_models_are_counted() -> None:
    load = Load.of(MINI.pretrain)
    few, many, too_many = (_frozen(MINI.pretrain, SHAPE, load, number) for number in (0, 1000, 10**9))
    assert many - few == 1000 * 16 * 8 * 4
    assert too_many == few > 0


@pytest.mark.slow
def test_a_stage_of_the_paper_is_estimated_without_its_memory(exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("traces 32 blocks; runs with --exhaustive")
    inputs = TransformerInputs(manifests=("m",), tokenizer="t", output="o", num_workers=1, part_size=1)
    spec = paper_stages(inputs)[2]
    spec = spec.replace(loop=spec.loop.replace(batch_size=4, num_parts=1), workers=spec.workers.replace(shard=False))
    found = estimate(spec, Assumptions(flops_per_s=4e14), tokenizer=tokenizer_preset("d32"))
    assert 2.0e9 < found.weights / 4 < 2.4e9
    assert 30e9 < found.device_bytes < 90e9


def test_a_transformer_needs_the_shape_of_its_tokenizer() -> None:
    with pytest.raises(ValueError, match="shape of its tokenizer"):
        estimate(MINI.pretrain)
