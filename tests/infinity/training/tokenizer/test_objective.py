"""A tokenizer learns, resumes exactly, and stops when its bits carry nothing."""

from pathlib import Path

import pytest
import torch

from infinity.training.guard import GuardConfig
from infinity.training.learner import NonFiniteLossError
from infinity.training.loop import train
from infinity.training.optimizers.optimizer import OptimizerConfig
from infinity.training.tokenizer.collapse import CollapseConfig, CollapseError
from infinity.training.tokenizer.objective import TokenizerLosses, _entropies
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.jobs.toy_training import assert_same, quiet
from tests.fixtures.jobs.training_sessions import LOOP, session, tokenizer_spec, train_here, untimed


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_data(tmp_path_factory.mktemp("data"))


def test_reconstructions_get_better(tmp_path: Path, manifest: str) -> None:
    spec = tokenizer_spec(tmp_path, manifest, optimizer=OptimizerConfig(learning_rate=5e-3))
    history = train_here(spec.replace(loop=LOOP.replace(num_steps=120, log_every_steps=5))).state.history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert history[-1]["psnr_db"] > history[0]["psnr_db"] + 0.5
    assert {"bit_entropy", "dead_bits", "gain_db", "l1", "commitment"} <= history[-1].keys()


def test_a_resumed_tokenizer_equals_the_uninterrupted_one_bit_for_bit(tmp_path: Path, manifest: str) -> None:
    """Also with dropped scales, whose draws belong to the step."""
    spec = tokenizer_spec(tmp_path, manifest, losses=TokenizerLosses(keep_probability=0.5, l2=0.5))
    whole = train_here(spec, saves=tmp_path).state
    resumed = train_here(spec, resume=tmp_path / "step-00000003").state
    assert_same(whole, resumed)
    assert untimed(whole.history) == untimed(resumed.history)


def test_five_pictures_are_enough_for_a_batch_of_64(tmp_path: Path) -> None:
    spec = tokenizer_spec(tmp_path, make_data(tmp_path / "data", num_train=5, num_validation=0))
    trained = train_here(spec.replace(loop=LOOP.replace(num_steps=2, batch_size=64)))
    assert trained.state.step == 2
    assert trained.draw().png.startswith(b"\x89PNG")


def test_accumulated_parts_equal_the_big_batch_where_samples_do_not_meet(tmp_path: Path, manifest: str) -> None:
    """The balance of bits is one of a whole part, so it is off."""
    spec = tokenizer_spec(tmp_path, manifest, losses=TokenizerLosses(balance=0.0, certainty=0.0))
    parts = train_here(spec.replace(loop=LOOP.replace(num_parts=2)))
    assert parts.state.history[0]["loss"] == pytest.approx(train_here(spec).state.history[0]["loss"], rel=1e-5)


def test_constant_bits_stop_the_run(tmp_path: Path, manifest: str) -> None:
    spec = tokenizer_spec(tmp_path, manifest, collapse=CollapseConfig(from_step=2, num_rows=1))
    made = session(spec)
    with torch.no_grad():  # an encoder that says the same of every picture
        made.task.module.encoder.conv_out.weight.zero_()
    with pytest.raises(CollapseError, match=r"step 2: the tokenizer has collapsed: \d+% of its bits"):
        train_on(made, spec)


def test_reconstructions_no_better_than_a_constant_picture_stop_the_run(tmp_path: Path, manifest: str) -> None:
    spec = tokenizer_spec(tmp_path, manifest, collapse=CollapseConfig(from_step=2, num_rows=1, max_dead_share=1.0))
    with pytest.raises(CollapseError, match=r"only -?\d\.\d\d dB better than one constant picture"):
        train_here(spec)  # two steps are too few for more, which is why the default gives hundreds


def test_pictures_that_are_all_alike_are_no_collapse(tmp_path: Path) -> None:
    spec = tokenizer_spec(tmp_path, make_data(tmp_path / "data", same=True))
    trained = train_here(spec.replace(collapse=CollapseConfig(from_step=2, num_rows=1, max_dead_share=1.0)))
    assert trained.state.step == LOOP.num_steps
    assert "gain_db" not in trained.state.history[-1]


def test_a_non_finite_loss_names_the_picture(tmp_path: Path, manifest: str) -> None:
    spec = tokenizer_spec(tmp_path, manifest)
    made = session(spec)
    with torch.no_grad():
        made.task.module.decoder.conv_out.bias[0] = float("nan")
    spec = spec.replace(loop=LOOP.replace(guard=GuardConfig(max_skipped=0)))
    with pytest.raises(NonFiniteLossError, match=r"step 1: loss nan.*picture-\d+\.png|all of the batch"):
        train_on(made, spec)


def test_evenness_by_scale_is_told_only_where_all_scales_were_kept() -> None:
    usage = torch.tensor([[0.5, 0.5], [0.5, 1.0], [0.0, 1.0]])
    found = {name: float(value) for name, value in _entropies(usage, 3).items()}
    assert found == pytest.approx(
        {
            "bit_entropy.bit_0": 2 / 3,
            "bit_entropy.bit_1": 1 / 3,
            "bit_entropy.scale_0": 1.0,
            "bit_entropy.scale_1": 0.5,
            "bit_entropy.scale_2": 0.0,
        }
    )
    assert _entropies(usage[:2], 3).keys() == {"bit_entropy.bit_0", "bit_entropy.bit_1"}


@pytest.mark.parametrize(("truncated", "share", "decoded"), [(0.0, 1.0, False), (0.5, 1.0, True), (0.5, 0.0, False)])
def test_a_second_picture_is_decoded_only_where_it_has_a_weight(
    tmp_path: Path, manifest: str, truncated: float, share: float, decoded: bool
) -> None:
    losses = TokenizerLosses(truncated=truncated, truncated_share=share)
    made = session(tokenizer_spec(tmp_path, manifest, losses=losses))
    found = made.task.losses(made.loader(0)[0], torch.Generator().manual_seed(0), measured=True)
    assert ("truncated_psnr_db" in found.metrics) is decoded


def test_losses_without_reconstruction_are_refused() -> None:
    with pytest.raises(ValueError, match="l1 or l2 above 0"):
        TokenizerLosses(l1=0.0)


def train_on(made, spec) -> None:  # type: ignore[no-untyped-def]
    train(made.state, made.task, made.loader, spec.loop, spec.optimizer, quiet(None), seed=spec.seed)
