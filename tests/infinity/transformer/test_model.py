"""Laws of the whole transformer."""

import math

import pytest
import torch

from infinity.scales import ASPECT_RATIOS, Resolution, published_schedule
from infinity.text import TextCondition
from infinity.transformer import Transformer
from infinity.transformer.loss import token_cross_entropy
from tests.fixtures.models.tiny_transformer import (
    TEXT_CHANNELS,
    decode_all,
    random_inputs,
    random_text,
    random_transformer,
    tiny_config,
)

SQUARE = Resolution(sides=(1, 2, 3, 4, 6)).schedule(1.0)
LOGITS = {"atol": 2e-4, "rtol": 0.0}


@pytest.mark.parametrize("aspect_ratio", ASPECT_RATIOS)
@torch.no_grad()
def test_masked_pass_equals_cached_passes_at_every_scale(aspect_ratio: float) -> None:
    model, text = random_transformer(), random_text((3, 8))
    full = published_schedule(aspect_ratio, "256")
    for schedule in (full, full.prefix(5), full.prefix(1)):
        inputs = random_inputs(schedule, batch_size=2)
        torch.testing.assert_close(decode_all(model, text, inputs, schedule), model(text, inputs, schedule), **LOGITS)


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": "grid"},
        {"positions": "interpolated"},
        {"scale_embedding_period": 1},
        {"scale_embedding_period": 2},
        {"cross_attention_layer_scale": 0.1},
        {"head": "joint"},
    ],
    ids=str,
)
@torch.no_grad()
def test_every_variant_decodes_as_it_trains(changes: dict[str, object]) -> None:
    model, text, inputs = random_transformer(tiny_config(**changes)), random_text((3, 8)), random_inputs(SQUARE, 2)
    torch.testing.assert_close(decode_all(model, text, inputs, SQUARE), model(text, inputs, SQUARE), **LOGITS)


@torch.no_grad()
def test_longer_schedule_begins_like_its_prefix() -> None:
    model, text = random_transformer(), random_text((4,))
    full = published_schedule(1.5, "512")
    prefix, inputs = full.prefix(7), random_inputs(full, 1)
    short = inputs[:, : prefix.num_tokens - 1]
    torch.testing.assert_close(model(text, inputs, full)[:, : prefix.num_tokens], model(text, short, prefix), **LOGITS)


@torch.no_grad()
def test_token_sees_its_own_and_coarser_scales_only() -> None:
    model, text, inputs = random_transformer(), random_text((4,)), random_inputs(SQUARE, 1)
    before = model(text, inputs, SQUARE)
    span = SQUARE.spans[3]
    inputs[:, span.stop - 2] += 1.0  # the last token of scale 4
    changed = (model(text, inputs, SQUARE) - before).abs().amax(dim=(0, 2, 3)) > 1e-6
    assert not changed[: span.start].any()
    assert changed[span.start :].all()


@torch.no_grad()
def test_packed_captions_equal_each_caption_alone() -> None:
    model, lengths = random_transformer(), (1, 8, 3, 5)
    text, inputs = random_text(lengths), random_inputs(SQUARE, len(lengths))
    together = model(text, inputs, SQUARE)
    for b in range(len(lengths)):
        torch.testing.assert_close(together[b : b + 1], model(text.select([b]), inputs[b : b + 1], SQUARE), **LOGITS)


@torch.no_grad()
def test_caption_decides_every_scale() -> None:
    model, inputs = random_transformer(), random_inputs(SQUARE, 1)
    difference = model(random_text((4,)), inputs, SQUARE) - model(random_text((4,), seed=1), inputs, SQUARE)
    assert (difference.abs().amax(dim=(0, 2, 3)) > 1e-3).all()


@pytest.mark.parametrize("lengths", [(4, 4), (2, 7)], ids=["equal", "different"])
def test_gradients_reach_every_parameter_in_training(lengths: tuple[int, int]) -> None:
    model = random_transformer(tiny_config(cross_attention_layer_scale=1.0)).train()
    generator = torch.Generator().manual_seed(0)
    logits = model(random_text(lengths), random_inputs(SQUARE, 2), SQUARE, generator=generator)
    token_cross_entropy(logits, torch.zeros(2, SQUARE.num_tokens, 6, dtype=torch.bool)).mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_recomputed_blocks_give_the_same_gradients() -> None:
    model, text, inputs = random_transformer().train(), random_text((2, 7)), random_inputs(SQUARE, 2)
    gradients = []
    for recompute in (False, True):
        model.zero_grad()
        generator = torch.Generator().manual_seed(0)
        model(text, inputs, SQUARE, generator=generator, recompute=recompute).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)


@torch.no_grad()
def test_evaluation_drops_nothing_and_draws_nothing() -> None:
    model = random_transformer(tiny_config(condition_drop=0.9, drop_path=0.9))
    text, inputs, generator = random_text((2, 7)), random_inputs(SQUARE, 2), torch.Generator().manual_seed(0)
    state = generator.get_state()
    once = model(text, inputs, SQUARE, generator=generator)
    assert torch.equal(once, model(text, inputs, SQUARE))
    assert torch.equal(state, generator.get_state())


@torch.no_grad()
def test_training_draws_from_the_generator_only() -> None:
    model = random_transformer(tiny_config(condition_drop=0.5, drop_path=0.5)).train()
    text, inputs = random_text((2, 7, 3, 3)), random_inputs(SQUARE, 4)
    first, again, other = (
        model(text, inputs, SQUARE, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    with pytest.raises(ValueError, match="pass a generator"):
        model(text, inputs, SQUARE)


@torch.no_grad()
def test_dropped_caption_is_the_first_rows_of_the_learned_table() -> None:
    model = random_transformer(tiny_config(condition_drop=0.5, drop_path=0.0))
    text, inputs = random_text((2, 7, 3, 3)), random_inputs(SQUARE, 4)
    dropped = torch.rand(4, generator=torch.Generator().manual_seed(0)) < 0.5
    assert 0 < dropped.sum() < 4
    kept, unconditional = model(text, inputs, SQUARE), model(model.unconditional(text), inputs, SQUARE)
    expected = torch.where(dropped[:, None, None, None], unconditional, kept)
    trained = model.train()(text, inputs, SQUARE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(trained, expected, **LOGITS)


@torch.no_grad()
def test_stochastic_depth_keeps_the_expected_sum_and_grows_linearly() -> None:
    config = tiny_config(drop_path=0.4, depth=5)
    assert [round(config.drop_path_rate(i), 6) for i in range(5)] == [0.0, 0.1, 0.2, 0.3, 0.4]
    model = Transformer(config).train()
    generator = torch.Generator().manual_seed(0)
    drop_paths = model._draw_drop_paths(20_000, generator)
    assert drop_paths[0] is None
    last = drop_paths[4]
    assert last is not None
    for factor in last:
        assert factor.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
        assert factor.mean().item() == pytest.approx(1.0, abs=0.03)
    assert not torch.equal(last.attend, last.expand)


@torch.no_grad()
def test_untrained_model_starts_at_a_loss_of_ln_2() -> None:
    for head in ("bitwise", "joint"):
        model = Transformer(tiny_config(head=head)).eval()
        model.init_weights(torch.Generator().manual_seed(0))
        bits = torch.rand(2, SQUARE.num_tokens, 6, generator=torch.Generator().manual_seed(1)) < 0.5
        loss = token_cross_entropy(model(random_text((2, 7)), random_inputs(SQUARE, 2), SQUARE), bits).mean()
        assert loss.item() == pytest.approx(math.log(2), abs=0.02)


def test_initial_weights_are_a_function_of_the_generator() -> None:
    models = [Transformer(tiny_config()) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        model.init_weights(torch.Generator().manual_seed(seed))
    first, again, other = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    for block in models[0].block_modules():
        torch.testing.assert_close(block.self_attention.log_scale, torch.full((2,), math.log(4.0)))
        assert block.modulation_offset[:2].abs().max() < 1e-5


@torch.no_grad()
def test_heads_have_their_shapes_and_sizes() -> None:
    text, inputs = random_text((2, 7)), random_inputs(SQUARE, 2)
    bitwise, joint = (random_transformer(tiny_config(head=head)) for head in ("bitwise", "joint"))
    assert bitwise(text, inputs, SQUARE).shape == (2, SQUARE.num_tokens, 6, 2)
    assert joint(text, inputs, SQUARE).shape == (2, SQUARE.num_tokens, 2**6)
    assert bitwise.head.weight.shape == (12, 32)
    with pytest.raises(ValueError, match="use head='bitwise'"):
        tiny_config(head="joint", num_bits=17)


@torch.no_grad()
def test_bfloat16_autocast_keeps_head_and_residual_stream_in_float32() -> None:
    model, text, inputs = random_transformer(), random_text((2, 7)), random_inputs(SQUARE, 2)
    exact = model(text, inputs, SQUARE)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(text, inputs, SQUARE)
        decoded = decode_all(model, text, inputs, SQUARE)
    assert rounded.dtype == decoded.dtype == torch.float32
    assert (rounded - exact).square().mean().sqrt() < 0.05 * exact.std()
    assert (decoded - exact).square().mean().sqrt() < 0.05 * exact.std()


def test_what_does_not_fit_is_refused_with_both_numbers() -> None:
    model, inputs = random_transformer(), random_inputs(SQUARE, 1)
    with pytest.raises(ValueError, match="at most 8 tokens with 48 channels, got up to 9"):
        model(random_text((9,)), inputs, SQUARE)
    with pytest.raises(ValueError, match="another text encoder"):
        model(TextCondition(torch.zeros(2, TEXT_CHANNELS + 1), (2,)), inputs, SQUARE)
    with pytest.raises(ValueError, match=r"expected inputs of shape \(1, 65, 6\)"):
        model(random_text((2,)), inputs[:, 1:], SQUARE)
    with pytest.raises(ValueError, match="another schedule or tokenizer"):
        model(random_text((2,)), inputs[..., 1:], SQUARE)
    with pytest.raises(ValueError, match="embeds 15 scales"):
        model(random_text((2,)), random_inputs(SQUARE, 1), Resolution(sides=tuple(range(1, 17))).schedule(1.0))
