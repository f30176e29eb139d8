"""Measures in parts: the same figures however the work is cut, and no silent measuring of the wrong pictures."""

import io
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.batches import load_images
from infinity.evaluation.benchmark import Benchmark, BenchmarkResult, EvalContext, EvalTarget, batches, spread
from infinity.evaluation.drawings import SampleBenchmark
from infinity.evaluation.model import loaded_pipeline
from infinity.evaluation.reconstruction.benchmark import ReconstructionBenchmark, reconstruct
from infinity.evaluation.reconstruction.image_quality import psnr_db
from infinity.evaluation.validation import ValidationBenchmark, ValidationState
from infinity.generation.sampling import SamplingConfig
from infinity.scales import custom_schedule
from tests.fixtures.data.small_world import eval_target, values, write_data, write_model


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> EvalTarget:
    folder = tmp_path_factory.mktemp("world")
    return eval_target(write_model(folder), write_data(folder / "data"))


def measured(benchmark: Benchmark[Any], target: EvalTarget) -> BenchmarkResult:
    context = EvalContext(target)
    parts = benchmark.parts(target, context.manifest)
    return benchmark.summarize(reduce(add, [part.compute(context) for part in parts]))


def test_every_picture_of_the_split_is_in_one_batch_of_its_ratio(world: EvalTarget) -> None:
    manifest = Manifest.load(world.manifest)
    rows = spread(manifest, "validation", None)
    cut = batches(manifest, rows, 4)
    assert sorted(row for batch in cut for row in batch.rows) == list(rows) == list(manifest.rows("validation"))
    assert all(manifest.aspect_ratios[row] == batch.aspect_ratio for batch in cut for row in batch.rows)
    assert max(len(batch.rows) for batch in cut) == 4


def test_fewer_pictures_are_spread_over_the_split(world: EvalTarget) -> None:
    manifest = Manifest.load(world.manifest)
    assert spread(manifest, "validation", 3) == (3, 6, 10)
    assert spread(manifest, "train", 99) == (0, 1, 2)


def test_empty_split_is_an_error_that_names_the_choices(tmp_path: Path) -> None:
    manifest = Manifest.load(write_data(tmp_path, num_validation=0))
    with pytest.raises(ValueError, match=r"'validation', found none.*'train' \(3 pictures\) on purpose"):
        spread(manifest, "validation", None)


@pytest.mark.parametrize("benchmark", [ReconstructionBenchmark(), ValidationBenchmark()])
def test_figures_do_not_depend_on_the_size_of_the_parts(world: EvalTarget, benchmark: Benchmark[Any]) -> None:
    whole = measured(benchmark, world)
    pieces = measured(benchmark, eval_target(world.model, world.manifest, batch_size=1))
    assert [score.metric for score in whole.scores] == [score.metric for score in pieces.scores]
    for a, b in zip(whole.scores, pieces.scores, strict=True):
        assert a.n == b.n == 11
        assert a.value == pytest.approx(b.value, rel=1e-3)


def test_reconstruction_is_the_mean_over_pictures_of_both_ratios(world: EvalTarget) -> None:
    result = measured(ReconstructionBenchmark(num_shown=2), world)
    pipeline, manifest = loaded_pipeline(EvalContext(world)), Manifest.load(world.manifest)
    expected = []
    for row in manifest.rows("validation"):
        schedule = pipeline.config.resolution.schedule(float(manifest.aspect_ratios[row]))
        image = load_images(manifest, [row], schedule.image_size_px(4))
        expected += psnr_db(image, reconstruct(pipeline.tokenizer, image, schedule)).tolist()
    assert values(result.scores)["reconstruction.psnr_db"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert set(result.sheets) == {"reconstructions", "worst"}
    assert f"{min(expected):.1f} to" in result.sheets["worst"].title


def test_shown_pictures_are_spread_over_those_that_are_measured(world: EvalTarget) -> None:
    manifest = Manifest.load(world.manifest)
    rows = manifest.rows("validation")
    for num_shown, places in ((2, (0, 5)), (3, (0, 3, 7)), (0, ()), (99, range(11))):
        parts = ReconstructionBenchmark(num_shown=num_shown).parts(world, manifest)
        assert sorted(row for part in parts for row in part.shown) == [rows[place] for place in places]
    with pytest.raises(ValueError, match="num_pictures: expected at least 1 or None, got 0"):
        ReconstructionBenchmark(num_pictures=0)
    with pytest.raises(ValueError, match="num_shown: expected at least 0, got -1"):
        ReconstructionBenchmark(num_shown=-1)


def test_reconstruction_sheet_has_the_originals_beside_their_reconstructions(world: EvalTarget) -> None:
    sheet = measured(ReconstructionBenchmark(num_pictures=1, num_shown=1), world).sheets["reconstructions"]
    pixels = np.asarray(Image.open(io.BytesIO(sheet.png)))
    manifest = Manifest.load(world.manifest)
    (row,) = spread(manifest, "validation", 1)
    (original,) = load_images(manifest, [row], (24, 24))
    np.testing.assert_array_equal(pixels[2:-2:4, 2:98:4], original)  # 24 px magnified four times


def test_small_pictures_have_no_ssim_and_say_why(tmp_path: Path) -> None:
    from infinity.evaluation.mean_state import MeanState
    from infinity.evaluation.reconstruction.benchmark import ReconstructionState

    state = ReconstructionState(psnr=MeanState.of([30.0]), ssim=MeanState(), shown=(), worst=(), num_worst=0)
    scores = {score.metric: score for score in ReconstructionBenchmark().summarize(state).scores}
    assert scores["reconstruction.ssim"].value is None
    assert "1 of 1 pictures left out: below 11 px" in scores["reconstruction.ssim"].note


def test_validation_names_loss_and_accuracies_of_every_scale(world: EvalTarget) -> None:
    found = values(measured(ValidationBenchmark(), world).scores)
    names = ("validation_loss", "bit_accuracy", "token_accuracy")
    scales = [f"{name}.scale_{k}" for name in names for k in range(4)]
    assert list(found) == ["validation.loss", "bit_accuracy.mean", "token_accuracy.mean", *scales]
    assert 0.5 < found["validation.loss"] < 1.0  # random weights: about ln 2 a bit


def test_right_logits_have_accuracy_one_and_uniform_ones_cost_ln_2() -> None:
    schedule = custom_schedule(1.0, (3, 3), 3)
    bits = torch.rand(2, schedule.num_tokens, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    sure = torch.stack([~bits, bits], dim=-1) * 40.0
    state = ValidationState.of(sure, bits, schedule)
    assert state.bits.mean == state.tokens.mean == 1.0
    assert [mean.mean for mean in state.bits_by_scale] == [1.0, 1.0, 1.0]
    assert state.loss.mean == pytest.approx(0.0, abs=1e-6)
    assert ValidationState.of(0 * sure, bits, schedule).loss.mean == pytest.approx(np.log(2), abs=1e-6)


def test_losses_of_scales_weighed_by_their_tokens_give_the_loss() -> None:
    schedule = custom_schedule(1.0, (3, 3), 3)
    random = torch.Generator().manual_seed(0)
    bits = torch.rand(2, schedule.num_tokens, 4, generator=random) > 0.5
    state = ValidationState.of(torch.randn(2, schedule.num_tokens, 4, 2, generator=random), bits, schedule)
    shares = [(span.stop - span.start) / schedule.num_tokens for span in schedule.spans]
    found = [mean.mean for mean in state.loss_by_scale]
    assert len(set(found)) == 3
    assert np.dot(found, shares) == pytest.approx(state.loss.mean, abs=1e-6)


def test_noise_in_the_history_changes_the_loss_and_repeats_itself(world: EvalTarget) -> None:
    clean, noisy, again = (
        values(measured(ValidationBenchmark(self_correction=rate), world).scores)["validation.loss"]
        for rate in (0.0, 0.3, 0.3)
    )
    assert noisy == again != clean


def test_samples_come_with_their_captions_and_repeat_whatever_the_batch(world: EvalTarget) -> None:
    drawn = eval_target(world.model, world.manifest, batch_size=4, sampling=SamplingConfig(guidance=1.0))
    sheet = measured(SampleBenchmark(num_pictures=3), drawn).sheets["samples"]
    assert set(sheet.captions) == {"waves number 3", "waves number 6", "waves number 10"}
    alone = eval_target(world.model, world.manifest, batch_size=1, sampling=SamplingConfig(guidance=1.0))
    assert measured(SampleBenchmark(num_pictures=3), alone).sheets["samples"].png == sheet.png


@pytest.mark.parametrize(
    "make",
    [
        lambda: ReconstructionBenchmark(num_pictures=0),
        lambda: ValidationBenchmark(self_correction=1.5),
        lambda: SampleBenchmark(num_pictures=0),
    ],
)
def test_senseless_settings_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()
