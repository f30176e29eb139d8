"""What a user says about a finetuning becomes the spec of a training."""

from pathlib import Path
from typing import Any

import pytest

from infinity.data.loading.mixture import ShareConfig
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.recipes.finetuning import SMALL_ADAPTER_RATE, Finetuning
from tests.fixtures.data.small_world import RESOLUTION, TEXT, write_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("finetuning"))


def spec_of(base: str, prior: str | None = None, **said: Any) -> TrainTransformerSpec:
    return Finetuning(base=base, output="out", **said).spec("m.parquet", prior)


def test_the_base_gives_shape_tokenizer_text_encoder_and_resolution(base: str) -> None:
    spec = spec_of(base)
    assert (spec.start_from, spec.tokenizer) == (base, f"{base}/tokenizer")
    assert (spec.text, spec.resolution) == (TEXT, RESOLUTION)
    assert not spec.workers.use_gpu
    assert TrainTransformerSpec.parse(spec.dump()) == spec


@pytest.mark.parametrize(
    ("said", "rate"),
    [({}, SMALL_ADAPTER_RATE), ({"rank": None}, 2e-5), ({"learning_rate": 0.5}, 0.5)],
    ids=["adapters", "all weights", "said"],
)
def test_the_learning_rate_follows_from_what_is_trained(base: str, said: dict[str, Any], rate: float) -> None:
    spec = spec_of(base, **said)
    assert spec.optimizer.learning_rate == rate
    assert (spec.adapters is None) == ("rank" in said)


def test_weights_below_adapters_are_stored_as_was_said(base: str) -> None:
    plain, small = spec_of(base), spec_of(base, quantize_base="int4")
    assert plain.adapters is not None
    assert small == plain.replace(adapters=plain.adapters.replace(base="int4"))
    assert TrainTransformerSpec.parse(small.dump()) == small
    with pytest.raises(ValueError, match="expected adapters above quantized weights"):
        spec_of(base, quantize_base="int8", rank=None)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 30])
def test_a_micro_batch_is_at_most_what_was_said(base: str, batch_size: int) -> None:
    loop = spec_of(base, batch_size=batch_size, micro_batch=4).loop
    assert loop.batch_size == batch_size
    assert -(-batch_size // loop.num_parts) <= 4


def test_the_fewest_workers_are_taken_over_and_are_not_more_than_the_most(base: str) -> None:
    spec = spec_of(base, num_workers=3, min_workers=2)
    assert (spec.workers.num_workers, spec.workers.min_workers) == (3, 2)
    assert spec.folder == spec_of(base, num_workers=3).folder
    with pytest.raises(ValueError, match="min_workers: expected 1 to num_workers, which is 1, got 2"):
        spec_of(base, min_workers=2)


def test_trigger_words_stand_before_the_new_captions_only_and_the_shares_are_those_said(base: str) -> None:
    alone = spec_of(base, trigger="zork")
    assert alone.share == ShareConfig(trigger="zork", folder_repeats=True)
    assert alone.sets == ()
    spec = spec_of(base, "old.parquet", trigger="zork", prior_weight=0.25)
    assert spec.share.dress("a cat") == "zork, a cat"
    assert [(each.manifest, each.share.dress("a cat")) for each in spec.sets] == [("old.parquet", "a cat")]
    assert (spec.share.weight, spec.sets[0].share.weight) == (0.75, 0.25)


def test_prompts_intervals_dropout_and_seed_are_taken_over(base: str) -> None:
    spec = spec_of(base, num_steps=100, prompts=("a fox",), sample_every=10, caption_dropout=0.3, seed=7)
    assert (spec.prompts, spec.loop.sample_every_steps, spec.model.condition_drop, spec.seed) == (
        ("a fox",),
        10,
        0.3,
        7,
    )
    assert spec_of(base, num_steps=100).loop.sample_every_steps == 20


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_that_leaves_a_set_out_is_refused(base: str, share: float) -> None:
    with pytest.raises(ValueError, match="prior_weight"):
        spec_of(base, "old.parquet", prior_weight=share)


def test_a_base_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing-here"):
        spec_of(str(tmp_path / "nothing-here"))
