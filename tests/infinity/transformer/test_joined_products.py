"""Queries, keys and values as one product are those of two, also after the weights have changed."""

from collections.abc import Callable

import pytest
import torch

from infinity.checkpoint import load_checkpoint, save_checkpoint
from infinity.kernels.switch import use_kernels
from infinity.scales import Resolution
from infinity.transformer import Transformer
from infinity.transformer.adapters.lora import Adapter, AdapterStack, LowRank
from infinity.transformer.number_formats.precision import store_products_as
from infinity.transformer.number_formats.quantized import quantize_products
from tests.fixtures.models.tiny_transformer import (
    decode_all,
    random_inputs,
    random_text,
    random_transformer,
    tiny_config,
)

SCHEDULE = Resolution(sides=(1, 2, 3)).schedule(1.0)
TEXT, INPUTS = random_text((3, 5)), random_inputs(SCHEDULE, 2)
NEW = random_transformer(seed=1).state_dict()


def joined() -> Transformer:
    """A random model whose blocks have one product for queries, keys and values."""
    model = random_transformer()
    for block in model.block_modules():
        block.self_attention.join()
        assert block.self_attention.joined is not None
    return model


def logits(model: Transformer) -> torch.Tensor:
    """Logits of all scales."""
    return decode_all(model, TEXT, INPUTS, SCHEDULE)


def adapt(model: Transformer) -> None:
    """Change queries, keys and values of the second block."""
    numbers = torch.Generator().manual_seed(2)
    width = model.config.width
    layers = {
        f"blocks.1.self_attention.{name}": LowRank(
            torch.randn(2, width, generator=numbers), torch.randn(rows, 2, generator=numbers), 0.3
        )
        for name, rows in (("query_key", 2 * width), ("value", width))
    }
    AdapterStack(model).set([(Adapter("some", layers, ""), 1.0)])


def double_biases(model: Transformer) -> None:
    """Change the biases in place."""
    for block in model.block_modules():
        block.self_attention.query_bias.data.mul_(2)
        block.self_attention.value.bias.mul_(2)


CHANGES: dict[str, Callable[[Transformer], object]] = {
    "none": lambda model: None,
    "loaded weights": lambda model: model.load_state_dict(NEW),
    "assigned weights": lambda model: model.load_state_dict(NEW, assign=True),
    "an adapter": adapt,
    "biases": double_biases,
    "moved and back": lambda model: model.double().float(),
    "8 bits": lambda model: quantize_products(model, "int8"),
}


@pytest.mark.parametrize("kernels", ["plain", "fast"])
@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_one_product_gives_the_numbers_of_two_whatever_happens_to_the_weights(change: str, kernels: str) -> None:
    two, one = random_transformer(), joined()
    for model in (two, one):
        CHANGES[change](model)
    with use_kernels(kernels):
        torch.testing.assert_close(logits(one), logits(two), atol=2e-4, rtol=0.0)
    assert (one.blocks[0].self_attention.joined is None) == (change == "8 bits")


@torch.no_grad()
def test_weights_rounded_to_bfloat16_are_joined_as_they_are_rounded() -> None:
    two, one = random_transformer(), joined()
    for model in (two, one):
        store_products_as(model, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(logits(one), logits(two), atol=0.05, rtol=0.0)
    assert one.blocks[0].self_attention.joined.weight.dtype == torch.bfloat16


def test_a_checkpoint_has_the_same_names_and_bytes(tmp_path: object) -> None:
    """Two views of one memory are stored apart."""
    digests = [
        save_checkpoint(f"{tmp_path}/{number}", kind="transformer", config=model.config, tensors=model.state_dict())
        for number, model in enumerate((random_transformer(), joined()))
    ]
    assert digests[0] == digests[1]
    stored = load_checkpoint(f"{tmp_path}/1", kind="transformer")
    again = Transformer(tiny_config())
    again.load_state_dict({name: tensor[...] for name, tensor in stored.tensors.items()})
    torch.testing.assert_close(logits(again.eval()), logits(random_transformer()), rtol=0.0, atol=0.0)


def test_no_memory_is_held_twice() -> None:
    attention = joined().blocks[0].self_attention
    places = {part.weight.untyped_storage().data_ptr() for part in (attention.query_key, attention.value)}
    assert places == {attention.joined.weight.untyped_storage().data_ptr()}
