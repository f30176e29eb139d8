"""Adapters change nothing at first, learn with the rest frozen, and come out as plain weights."""

from pathlib import Path

import pytest
import torch

from infinity.generation.pipeline import Pipeline, load_transformer
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.estimate.estimate import estimate
from infinity.jobs.training import transformer as train_transformer
from infinity.scales import custom_schedule
from infinity.text import TextCondition
from infinity.tokenizer.saved import load_tokenizer
from infinity.training.transformer.adapters import AdapterConfig, add_adapters, merged
from infinity.training.transformer.engine import EngineConfig
from infinity.transformer import Transformer
from infinity.transformer.adapters.lora import AdapterStack
from infinity.transformer.adapters.lora_files import load_adapter
from infinity.transformer.number_formats.quantized import QUANTIZATIONS, Quantization, QuantizedLinear
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.jobs.toy_training import assert_same
from tests.fixtures.jobs.training_sessions import LOOP, make_tokenizer, session, train_here, transformer_spec
from tests.fixtures.models.tiny_transformer import random_transformer


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
    with pytest.raises(
        ValueError, match=f"AdapterConfig.{next(iter(wrong))}: expected (at least 1|above 0|0 to below 1)"
    ):
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


@pytest.mark.parametrize(("base", "dora"), [("int8", False), ("int8", True), ("int4", False)])
def test_adapters_of_a_quantized_base_learn_and_are_those_of_the_unquantized_one(
    start: train_transformer.TrainTransformerSpec, tmp_path: Path, base: Quantization, dora: bool
) -> None:
    spec = start.replace(
        adapters=AdapterConfig(rank=4, base=base, dora=dora),
        optimizer=start.optimizer.replace(learning_rate=1e-2),
        loop=start.loop.replace(num_steps=40, log_every_steps=1),
    )
    made = train_here(spec)
    losses = [row["loss"] for row in made.state.history]
    assert sum(losses[-10:]) < 0.99 * sum(losses[:10])
    assert all("lora_" in name for name, weight in made.state.module.named_parameters() if weight.grad is not None)
    assert all("lora_" in name for name, _ in made.state.tensors())
    made.export(str(tmp_path / "model"))
    assert spec.start_from is not None
    adapter = load_adapter(str(tmp_path / "adapter"))
    loaded = load_transformer(spec.start_from)[1]
    AdapterStack(loaded).set([(adapter, 1.0)])
    exported = load_transformer(str(tmp_path / "model"))[1].state_dict()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, exported[name]), name
    plain = load_transformer(spec.start_from)[1].state_dict()
    assert any(not torch.equal(value, plain[name]) for name, value in exported.items())


@pytest.mark.parametrize("base", QUANTIZATIONS)
def test_gradients_are_those_of_the_restored_weights_which_nothing_keeps(base: Quantization) -> None:
    quantized, restored = random_transformer(), random_transformer()
    add_adapters(quantized, AdapterConfig(rank=2, base=base))
    add_adapters(restored, AdapterConfig(rank=2))
    maps = dict(quantized.named_modules())
    with torch.no_grad():
        for name, module in restored.named_modules():
            if name.endswith("base_layer"):
                module.weight.copy_(maps[name].weight)  # type: ignore[operator, union-attr, arg-type]
        for one, other in zip(trained(quantized), trained(restored), strict=True):
            other.copy_(one.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(one.numel())))
    kept: list[tuple[int, ...]] = []
    schedule = custom_schedule(1.0, last_grid=(4, 4), num_scales=3)
    text = TextCondition.pack([torch.randn(5, quantized.config.text_channels)])
    inputs = torch.randn(1, schedule.num_tokens - 1, quantized.config.num_bits)

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        one = quantized(text, inputs, schedule)
    other = restored(text, inputs, schedule)
    torch.testing.assert_close(one, other)
    for logits in (one, other):
        logits.square().mean().backward()
    for first, second in zip(trained(quantized), trained(restored), strict=True):
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-4, atol=1e-7)
    restored_shapes = {tuple(m.weight.shape) for m in quantized.modules() if isinstance(m, QuantizedLinear)}
    assert not restored_shapes & (set(kept) | {shape[::-1] for shape in kept})


def trained(model: Transformer) -> list[torch.nn.Parameter]:
    return [weight for weight in model.parameters() if weight.requires_grad]


def test_a_quantized_base_takes_less_memory_in_the_estimate(start: train_transformer.TrainTransformerSpec) -> None:
    tokenizer = load_tokenizer(start.tokenizer).config
    wide = start.replace(model=start.model.replace(width=512, num_heads=8, depth=1))
    found = {
        base: estimate(wide.replace(adapters=AdapterConfig(rank=4, base=base)), tokenizer=tokenizer)
        for base in (None, "int4")
    }
    blocks = sum(
        module.weight.numel()
        for block in Transformer(wide.model).block_modules()
        for module in block.modules()
        if isinstance(module, torch.nn.Linear)
    )
    plain, small = found[None], found["int4"]
    assert plain.weights - small.weights == pytest.approx((4 - 5 / 8) * blocks, rel=0.02)
    assert small.gradients == plain.gradients
    assert small.device_bytes < plain.device_bytes


def test_a_base_of_no_kind_and_a_compiled_one_are_refused(start: train_transformer.TrainTransformerSpec) -> None:
    with pytest.raises(ValueError, match="quantize: expected int8 or int4, got 'int3'"):
        AdapterConfig(base="int3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"engine\.compile: expected false with a quantized base"):
        start.replace(adapters=AdapterConfig(base="int8"), engine=EngineConfig(compile=True))
    assert start.digest() == start.replace(adapters=AdapterConfig(rank=4, base=None)).digest()
    assert start.digest() != start.replace(adapters=AdapterConfig(rank=4, base="int8")).digest()


def test_adapters_need_a_model_to_adapt(start: train_transformer.TrainTransformerSpec) -> None:
    with pytest.raises(ValueError, match="expected a start_from"):
        start.replace(start_from=None)
    with pytest.raises(ValueError, match=r"whose weights they adapt, and workers\.shard false"):
        start.replace(workers=WorkersConfig(shard=True))


def test_unknown_targets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected some of .*'query_key'"):
        AdapterConfig(targets=("head",))
