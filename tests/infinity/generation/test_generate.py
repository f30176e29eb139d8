"""Laws of generation."""

from typing import Any

import pytest
import torch
from torch import Tensor

from infinity.generation import (
    Conditions,
    Generated,
    PyramidGuidance,
    SampledBits,
    SamplingConfig,
    generate,
    sample_bits,
    to_uint8,
)
from infinity.scales import ASPECT_RATIOS, published_schedule
from infinity.text import TextCondition
from infinity.tokenizer import ResidualLoop
from infinity.transformer import Transformer
from tests.fixtures.models.tiny_pipeline import PROMPTS, SCHEDULE, SEEDS, tiny_parts, tiny_tokenizer
from tests.fixtures.models.tiny_transformer import random_text, random_transformer, tiny_config

PLAIN = SamplingConfig(guidance=1.0, nucleus=1.0)


def _generate(
    prompts: Any = PROMPTS, seeds: Any = SEEDS, sampling: SamplingConfig = PLAIN, **changes: Any
) -> Generated:
    return generate(*tiny_parts(**changes), prompts, schedule=SCHEDULE, sampling=sampling, seeds=seeds)


def _sample(sampling: SamplingConfig, text: TextCondition, negative: TextCondition | None = None) -> SampledBits:
    generators = [torch.Generator().manual_seed(b) for b in range(text.batch_size)]
    return sample_bits(
        random_transformer(),
        tiny_tokenizer(),
        Conditions(text, generators, negative),
        schedule=SCHEDULE,
        sampling=sampling,
        keep_logits=True,
    )


@pytest.mark.parametrize(
    "sampling",
    [
        PLAIN,
        SamplingConfig(guidance=3.0),
        SamplingConfig(guidance=PyramidGuidance(), temperature=(1.0, 0.9, 0.8, 0.7)),
        SamplingConfig(guidance=2.0, guide_logits=False, guided_blocks=(-2,)),
        SamplingConfig(guidance=2.0, negative_prompt="a blurred picture"),
        SamplingConfig(greedy=True),
    ],
    ids=["plain", "guided", "pyramid", "features", "negative", "greedy"],
)
@pytest.mark.parametrize("head", ["bitwise", "joint"])
def test_batch_of_many_equals_one_by_one_in_bits(sampling: SamplingConfig, head: str) -> None:
    together = _generate(sampling=sampling, head=head)
    for b, (prompt, seed) in enumerate(zip(PROMPTS, SEEDS, strict=True)):
        alone = _generate([prompt], [seed], sampling, head=head)
        assert torch.equal(alone.labels.bits_BLC, together.labels.select([b]).bits_BLC)


def test_seed_prompt_and_size_each_change_the_picture() -> None:
    first, again, other_seed, other_prompt = (
        _generate([prompt], [seed]).labels.bits_BLC
        for prompt, seed in (("a dog", 1), ("a dog", 1), ("a dog", 2), ("a cat", 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other_seed)
    assert not torch.equal(first, other_prompt)


def test_guidance_of_one_equals_none_and_runs_captions_once() -> None:
    text = random_text((3, 5))
    plain = _sample(SamplingConfig(guidance=1.0), text)
    listed = _sample(SamplingConfig(guidance=(1.0,) * 4), text)
    assert plain.head_logits is not None
    assert [logits.shape[0] for logits in plain.head_logits] == [2] * 4
    assert torch.equal(plain.labels.bits_BLC, listed.labels.bits_BLC)
    nearly = _sample(SamplingConfig(guidance=1.0 + 1e-6), text)
    assert nearly.head_logits is not None
    assert [logits.shape[0] for logits in nearly.head_logits] == [4] * 4
    assert torch.equal(plain.labels.bits_BLC, nearly.labels.bits_BLC)


def test_guidance_with_equal_captions_on_both_sides_changes_nothing() -> None:
    text = random_text((3, 5))
    plain, guided = _sample(SamplingConfig(guidance=1.0), text), _sample(SamplingConfig(guidance=5.0), text, text)
    assert torch.equal(plain.labels.bits_BLC, guided.labels.bits_BLC)


def test_guided_logits_are_the_mix_of_both_halves_after_temperature() -> None:
    sampled = _sample(
        SamplingConfig(guidance=(2.0, 1.0, 3.0, 4.0), temperature=(1.0, 0.5, 2.0, 1.0)), random_text((3, 5))
    )
    assert sampled.head_logits is not None
    assert sampled.logits is not None
    expected = []
    for head, guidance, temperature in zip(
        sampled.head_logits, (2.0, 1.0, 3.0, 4.0), (1.0, 0.5, 2.0, 1.0), strict=True
    ):
        if guidance == 1.0:
            assert head.shape[0] == 2
            expected.append(head / temperature)
        else:
            expected.append((guidance * head[:2] + (1 - guidance) * head[2:]) / temperature)
    torch.testing.assert_close(sampled.logits, torch.cat(expected, dim=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", range(SCHEDULE.num_scales))
@pytest.mark.parametrize("negative", [False, True])
def test_a_scale_with_guidance_one_takes_what_the_caption_alone_gives(scale: int, negative: bool) -> None:
    """Other scales before and after it are guided, so that both halves of the batch run; the bits so far are given."""
    guidance = tuple(1.0 if k == scale else 3.0 for k in range(SCHEDULE.num_scales))
    text, stand_in = random_text((3, 5)), random_text((4, 2), seed=7) if negative else None
    sampled = _sample(SamplingConfig(guidance=guidance, greedy=True), text, stand_in)
    assert sampled.head_logits is not None
    expected = _logits_after(sampled, text)[:, SCHEDULE.spans[scale]]
    assert sampled.head_logits[scale].shape[0] == 2
    torch.testing.assert_close(sampled.head_logits[scale], expected, atol=2e-4, rtol=0)
    other = random_transformer().unconditional(text) if stand_in is None else stand_in
    unconditional = _logits_after(sampled, other)[:, SCHEDULE.spans[scale]]
    assert (unconditional - expected).abs().max() > 0.01, "the other half says something else"


@pytest.mark.parametrize("scale", range(SCHEDULE.num_scales))
def test_at_guided_scales_the_first_half_of_the_rows_is_the_caption(scale: int) -> None:
    text = random_text((3, 5))
    sampled = _sample(SamplingConfig(guidance=2.0, greedy=True), text)
    assert sampled.head_logits is not None
    halves = sampled.head_logits[scale].chunk(2)
    for half, condition in zip(halves, (text, random_transformer().unconditional(text)), strict=True):
        expected = _logits_after(sampled, condition)[:, SCHEDULE.spans[scale]]
        torch.testing.assert_close(half, expected, atol=2e-4, rtol=0)


def test_a_scale_without_guidance_on_blocks_reads_the_caption_too() -> None:
    guidance = (3.0, 1.0, 3.0, 1.0)
    text = random_text((3, 5))
    blocks = SamplingConfig(guidance=guidance, greedy=True, guide_logits=False, guided_blocks=(-1,))
    sampled = _sample(blocks, text)
    assert sampled.head_logits is not None
    for k in (1, 3):
        expected = _logits_after(sampled, text)[:, SCHEDULE.spans[k]]
        torch.testing.assert_close(sampled.head_logits[k], expected, atol=2e-4, rtol=0)


@torch.no_grad()
def _logits_after(sampled: SampledBits, text: TextCondition) -> Tensor:
    """What the model gives at every scale by teacher forcing with the bits that were drawn."""
    loop = ResidualLoop(SCHEDULE, batch_size=text.batch_size, num_bits=6)
    inputs = []
    for k in range(SCHEDULE.num_scales - 1):
        loop.add(sampled.labels.scale(k))
        inputs.append(loop.next_input(k))
    logits: Tensor = random_transformer()(text, torch.cat(inputs, dim=1), SCHEDULE)
    return logits


@pytest.mark.sweep(8)
@pytest.mark.parametrize("guided", range(SCHEDULE.num_scales + 1))
@pytest.mark.parametrize("on_blocks", [False, True])
@pytest.mark.parametrize("negative", [False, True])
def test_after_the_last_guided_scale_the_unconditional_half_rests_and_no_bit_changes(
    guided: int, on_blocks: bool, negative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guidance of nearly one runs both halves to the end."""
    rows: list[int] = []
    real = Transformer.decode_scale

    def counted(self: Transformer, decoding: Any, k: int, inputs: Tensor | None, *how: Any) -> Tensor:
        hidden = real(self, decoding, k, inputs, *how)
        rows.append(len(hidden))
        return hidden

    monkeypatch.setattr(Transformer, "decode_scale", counted)
    text, stand_in = random_text((3, 5)), random_text((4, 2), seed=7) if negative else None
    how: dict[str, Any] = {"guide_logits": False, "guided_blocks": (1,)} if on_blocks else {}
    factors = tuple(3.0 if k < guided else 1.0 for k in range(SCHEDULE.num_scales))
    halved = _sample(SamplingConfig(guidance=factors, **how), text, stand_in)
    assert rows == [4] * guided + [2] * (SCHEDULE.num_scales - guided)
    rows.clear()
    nearly = tuple(3.0 if k < guided else 1.0 + 1e-7 for k in range(SCHEDULE.num_scales))
    doubled = _sample(SamplingConfig(guidance=nearly, **how), text, stand_in)
    assert rows == [4] * SCHEDULE.num_scales
    assert torch.equal(halved.labels.bits_BLC, doubled.labels.bits_BLC)
    torch.testing.assert_close(halved.logits, doubled.logits, atol=1e-4, rtol=0)


def test_guidance_on_the_last_block_nears_guidance_on_logits_but_is_not_it() -> None:
    text = random_text((3, 5))
    logits, features = (
        _sample(SamplingConfig(guidance=2.0, greedy=True, guide_logits=on_logits, guided_blocks=blocks), text)
        for on_logits, blocks in ((True, ()), (False, (-1,)))
    )
    assert features.head_logits is not None
    assert [head.shape[0] for head in features.head_logits] == [2] * 4
    assert not torch.equal(logits.labels.bits_BLC, features.labels.bits_BLC)


def test_teacher_forcing_with_the_generated_bits_gives_the_logits_of_generation() -> None:
    text = random_text((3, 5))
    sampled = _sample(PLAIN, text)
    torch.testing.assert_close(sampled.logits, _logits_after(sampled, text), atol=2e-4, rtol=0)


@pytest.mark.parametrize("aspect_ratio", ASPECT_RATIOS[::4])
def test_every_ratio_and_folded_tokens_give_pictures_of_their_size(aspect_ratio: float) -> None:
    schedule = published_schedule(aspect_ratio, "256").prefix(5)
    _, plain, encoder = tiny_parts()
    for tokenizer, bits in ((plain, 6), (tiny_tokenizer(fold=True), 8)):
        model = random_transformer(tiny_config(num_bits=bits))
        generated = generate(
            model, tokenizer, encoder, PROMPTS[:2], schedule=schedule, sampling=SamplingConfig(), seeds=(0, 1)
        )
        assert generated.images_BHW3.shape == (2, *schedule.image_size_px(tokenizer.config.stride_px), 3)
        assert generated.labels.bits_BLC.shape == (2, schedule.num_tokens, bits)


def test_pictures_are_the_decoded_bits_in_rgb_order() -> None:
    _, tokenizer, _ = tiny_parts()
    generated = _generate()
    for row, image in enumerate(generated.images_BHW3):  # one by one, as on the CPU; a batch rounds otherwise
        assert torch.equal(image, to_uint8(tokenizer.decode_labels(generated.labels.select([row])))[0])
    red = torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert to_uint8(red)[0, 0, 0].tolist() == [255, 0, 127]


def test_progress_ends_at_one() -> None:
    seen: list[float] = []
    generate(*tiny_parts(), PROMPTS, schedule=SCHEDULE, sampling=PLAIN, seeds=SEEDS, progress=seen.append)
    assert len(seen) == SCHEDULE.num_scales
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_what_does_not_fit_is_refused() -> None:
    transformer, tokenizer, encoder = tiny_parts()
    arguments: dict[str, Any] = {"schedule": SCHEDULE, "sampling": PLAIN}
    with pytest.raises(ValueError, match="4 prompts and 1 seeds"):
        generate(transformer, tokenizer, encoder, PROMPTS, seeds=(1,), **arguments)
    with pytest.raises(ValueError, match="predicts 6 bits per token, the tokenizer has 8"):
        generate(transformer, tiny_tokenizer(fold=True), encoder, PROMPTS, seeds=SEEDS, **arguments)
    with pytest.raises(ValueError, match="call eval"):
        generate(transformer.train(), tokenizer, encoder, PROMPTS, seeds=SEEDS, **arguments)
    transformer.eval()
    for sampling, message in (
        (SamplingConfig(guidance=(1.0, 2.0)), "at least 4, one per scale, got 2"),
        (SamplingConfig(guided_blocks=(3,)), "3 blocks, got"),
    ):
        arguments["sampling"] = sampling
        with pytest.raises(ValueError, match=message):
            generate(transformer, tokenizer, encoder, PROMPTS, seeds=SEEDS, **arguments)


def test_conditions_have_a_generator_and_a_negative_caption_for_each_picture() -> None:
    text = tiny_parts()[2].encode(PROMPTS)
    with pytest.raises(ValueError, match="each of 4 captions, got 3 and none"):
        Conditions(text, [torch.Generator()] * 3)
    with pytest.raises(ValueError, match="each of 4 captions, got 4 and 2"):
        Conditions(text, [torch.Generator()] * 4, tiny_parts()[2].encode(PROMPTS[:2]))
