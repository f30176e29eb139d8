"""Adapters change nothing at first, learn with the rest frozen, and come out as plain weights."""

from pathlib import Path

import pytest
import torch

from infinity.generation.pipeline import Pipeline, load_transformer
from infinity.jobs.training import transformer as train_transformer
from infinity.jobs.training.base import WorkersConfig
from infinity.training.transformer.adapters import AdapterConfig, add_adapters, merged
from tests.fixtures.tiny_transformer import random_transformer
from tests.fixtures.toy_training import assert_same
from tests.fixtures.training_pictures import make_data
from tests.fixtures.training_sessions import LOOP, make_tokenizer, session, train_here, transformer_spec


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> train_transformer.TrainTransformerSpec:
    """A finetuning that starts from a model trained for a few steps."""
    folder = tmp_path_factory.mktemp("start")
    manifest = make_data(folder / "data")
    spec = transformer_spec(folder, manifest, make_tokenizer(folder, manifest))
    train_here(spec).export(str(folder / "model"))
    loop = LOOP.replace(ema_decay=None)
    return spec.replace(start_from=str(folder / "model"), loop=loop, adapters=AdapterConfig(rank=4))


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_impossible_adapters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected rank of at least 1"):
        AdapterConfig(**wrong)  # type: ignore[arg-type]
    assert AdapterConfig(rank=1, alpha=0.1, dropout=0.0).dropout == AdapterConfig(dropout=0.0).dropout
    assert AdapterConfig(dropout=0.5).dropout == 0.5


def test_adapters_that_are_no_numbers_are_not_added_in() -> None:
    model = random_transformer()
    add_adapters(model, AdapterConfig(rank=2))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="NaNs detected"):
        merged(model)


@pytest.mark.parametrize("dora", [False, True])
def test_new_adapters_change_no_weight(start: train_transformer.TrainTransformerSpec, dora: bool) -> None:
    assert start.start_from is not None
    plain = load_transformer(start.start_from)[1]
    adapted = load_transformer(start.start_from)[1]
    add_adapters(adapted, AdapterConfig(rank=4, dora=dora))
    for name, value in merged(adapted).state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dora", [False, True])
def test_only_adapters_learn_and_the_export_is_plain_and_draws_what_was_trained(
    start: train_transformer.TrainTransformerSpec, tmp_path: Path, dora: bool
) -> None:
    spec = start.replace(adapters=AdapterConfig(rank=4, dora=dora))
    before = {k: v.clone() for k, v in session(spec).state.module.state_dict().items() if "lora_" not in k}
    made = train_here(spec)
    trained = made.state.module
    for name, value in before.items():
        assert torch.equal(value, trained.state_dict()[name]), name
    assert any(bool(v.any()) for k, v in trained.state_dict().items() if "lora_B" in k)
    made.export(str(tmp_path / "model"))
    assert spec.start_from is not None
    names = set(load_transformer(spec.start_from)[1].state_dict())
    exported = load_transformer(str(tmp_path / "model"))[1]
    assert set(exported.state_dict()) == names
    text = Pipeline.load(str(tmp_path / "model")).text_encoder.encode(["a red square"])
    schedule = spec.resolution.schedule(1.0)
    inputs = torch.randn(1, schedule.num_tokens - 1, spec.model.num_bits)
    trained.eval()
    torch.testing.assert_close(exported(text, inputs, schedule), trained(text, inputs, schedule), rtol=1e-4, atol=1e-5)


def test_a_stored_state_holds_adapters_only_and_resumes_exactly(
    start: train_transformer.TrainTransformerSpec, tmp_path: Path
) -> None:
    whole = train_here(start, saves=tmp_path)
    assert all("lora_" in name for name, _ in whole.state.tensors())
    resumed = train_here(start, resume=tmp_path / "step-00000003")
    assert_same(whole.state, resumed.state)


def test_adapters_need_a_model_to_adapt(start: train_transformer.TrainTransformerSpec) -> None:
    with pytest.raises(ValueError, match="expected a start_from"):
        start.replace(start_from=None)
    with pytest.raises(ValueError, match="do not share out weights"):
        start.replace(workers=WorkersConfig(shard=True))


def test_unknown_targets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected some of .*'query_key'"):
        AdapterConfig(targets=("head",))
