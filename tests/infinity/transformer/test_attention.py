"""Attention kernels agree with each other; the mask is block-causal."""

import pytest
import torch
import torch.nn.functional as F

from infinity.scales import Resolution, Size, published_schedule
from infinity.transformer import scale_attention
from infinity.transformer.scale_attention import (
    Kernel,
    attend,
    block_causal_attention,
    scale_mask,
    visibility,
    visibility_bias,
)

CPU = torch.device("cpu")


def test_mask_is_whole_blocks_below_and_on_the_diagonal() -> None:
    schedule = Resolution(sides=(1, 2, 3)).schedule(1.0)
    mask = scale_mask(schedule, CPU)
    for i, rows in enumerate(schedule.spans):
        for j, columns in enumerate(schedule.spans):
            assert mask[rows, columns].all() == mask[rows, columns].any() == (j <= i)


@pytest.mark.parametrize("dense_tokens", [0, 100, 10_000])
@pytest.mark.parametrize("explicit_scores", [0, 10**9])
@pytest.mark.parametrize("kernel", ["windows", "dense"])
def test_windows_and_kernels_equal_one_masked_softmax(
    kernel: Kernel, dense_tokens: int, explicit_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale_attention, "_DENSE_TOKENS", dense_tokens)
    monkeypatch.setattr(scale_attention, "_EXPLICIT_SCORES", explicit_scores)
    visibility.cache_clear()
    schedule = published_schedule(0.8, "256")
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, schedule.num_tokens, 8)
    leaves = [torch.randn(shape, generator=generator, requires_grad=True) for _ in range(3)]
    weight = torch.randn(shape, generator=generator)
    found = block_causal_attention(*leaves, visibility(schedule, CPU, kernel))
    expected = F.scaled_dot_product_attention(*leaves, attn_mask=scale_mask(schedule, CPU), scale=1.0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    for gradient in (weight, torch.ones(()).expand(shape), weight.transpose(2, 3).contiguous().transpose(2, 3)):
        for a, b in zip(
            torch.autograd.grad(found, leaves, gradient, retain_graph=True),
            torch.autograd.grad(expected, leaves, gradient, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    visibility.cache_clear()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("size", ["256", "512"])
@pytest.mark.parametrize("aspect_ratio", [1.0, 0.8, 3.0])
def test_flex_attention_equals_the_dense_mask(aspect_ratio: float, size: Size) -> None:
    """Lengths that are no multiple of its blocks of 128; values only, as it has no backward pass on a CPU."""
    schedule = published_schedule(aspect_ratio, size)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, schedule.num_tokens, 16, generator=generator) for _ in range(3))
    visible = visibility(schedule, CPU, "flex")
    assert visible.blocks is not None
    assert visible.blocks.to_dense().float().mean() < 1.0  # some blocks are skipped
    expected = block_causal_attention(query, key, value, visibility(schedule, CPU, "dense"))
    torch.testing.assert_close(block_causal_attention(query, key, value, visible), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("device", "triton", "kernel"), [("cpu", True, "windows"), ("cuda", True, "flex"), ("cuda", False, "windows")]
)
def test_the_device_decides_the_kernel_where_nobody_asks(
    device: str, triton: bool, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale_attention, "_blocks", lambda schedule, device: "blocks")
    monkeypatch.setattr(scale_attention, "_has_triton", lambda: triton)
    monkeypatch.setattr(scale_attention, "_windows", lambda schedule, device: ("window",))
    found = visibility.__wrapped__(published_schedule(1.0, "256"), torch.device(device))
    assert (found.blocks == "blocks") == (kernel == "flex")
    assert bool(found.calls) == (kernel == "windows")


def test_an_unknown_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of auto, windows, dense, flex, got 'flash'"):
        visibility(published_schedule(1.0, "256"), CPU, "flash")  # type: ignore[arg-type]


@pytest.mark.parametrize("explicit_scores", [0, 10**9])
def test_hidden_text_changes_nothing(explicit_scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_attention, "_EXPLICIT_SCORES", explicit_scores)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 8, generator=generator) for _ in range(3))
    visible = torch.tensor([[True, True, True, False, False], [True] * 5])
    found = attend(query, key, value, visibility_bias(visible)[:, None, None], 0.3)
    alone = attend(query[:1], key[:1, :, :3], value[:1, :, :3], None, 0.3)
    torch.testing.assert_close(found[:1], alone)
