"""The fused attention kernel is the one that was chosen, where it can serve, and says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend

from infinity.transformer import attention_backend
from infinity.transformer.attention_backend import BACKENDS, VARIABLE, fused_attention, use_attention


class OnCard(torch.Tensor):
    """Numbers of the CPU that say they are on a GPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", 0)


def on_card(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Tensor:
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return numbers.as_subclass(OnCard)


def inputs(dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, Tensor, Tensor]:
    return (
        on_card(2, 3, 5, 8, dtype=dtype),
        on_card(2, 3, 7, 8, dtype=dtype, seed=1),
        on_card(2, 3, 7, 8, dtype=dtype, seed=2),
    )


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    attention_backend._flash3.cache_clear()
    yield
    attention_backend._flash3.cache_clear()


@pytest.fixture
def flash3(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Size, float]]:
    """A stand-in for the package, which takes tokens before heads and may return sums beside the result."""
    calls: list[tuple[torch.Size, float]] = []

    def flash_attn_func(query: Tensor, key: Tensor, value: Tensor, softmax_scale: float) -> object:
        calls.append((query.shape, softmax_scale))
        parts = (each.transpose(1, 2).as_subclass(torch.Tensor) for each in (query, key, value))
        found = F.scaled_dot_product_attention(*parts, scale=softmax_scale).transpose(1, 2)
        return (found, torch.zeros(1)) if len(calls) % 2 else found

    module = types.ModuleType("flash_attn_interface")
    module.flash_attn_func = flash_attn_func  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn_interface", module)
    return calls


def test_flash3_gets_tokens_before_heads_and_the_scale(flash3: list[tuple[torch.Size, float]]) -> None:
    query, key, value = inputs()
    expected = F.scaled_dot_product_attention(query, key, value, scale=0.5)
    with use_attention("flash3"):
        for _ in range(2):  # with and without sums
            torch.testing.assert_close(fused_attention(query, key, value, None, 0.5), expected, check_device=False)
    assert flash3 == [(torch.Size((2, 5, 3, 8)), 0.5)] * 2


def test_masks_and_float32_are_left_to_torch(flash3: list[tuple[torch.Size, float]]) -> None:
    mask = torch.zeros(1, 1, 5, 7, dtype=torch.bfloat16)
    with use_attention("flash3"):
        fused_attention(*inputs(), mask, 0.5)
        fused_attention(*inputs(torch.float32), None, 0.5)
        fused_attention(*(each.as_subclass(torch.Tensor) for each in inputs()), None, 0.5)
    assert flash3 == []


@pytest.mark.parametrize(
    ("name", "backend"), [("cudnn", SDPBackend.CUDNN_ATTENTION), ("flash", SDPBackend.FLASH_ATTENTION)]
)
def test_a_kernel_of_torch_is_the_only_one_in_its_call(
    name: attention_backend.Backend, backend: SDPBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[list[SDPBackend]] = []

    def watched(*args: Tensor, **options: object) -> Tensor:
        allowed.append([SDPBackend(each) for each in torch.nn.attention._cur_sdpa_kernel_backends()])
        return args[0]

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    with use_attention(name), torch.nn.attention.sdpa_kernel(list(attention_backend._IN_TORCH.values())):
        fused_attention(*inputs(), None, 0.5)
    fused_attention(*inputs(), None, 0.5)
    assert allowed[0] == [backend]
    assert len(allowed[1]) > 1, "elsewhere torch chooses"


def test_a_kernel_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn_interface", None)
    with use_attention("flash3"), pytest.raises(ValueError, match=r"'flash3' needs the package flash_attn_interface"):
        fused_attention(*inputs(), None, 1.0)


def test_an_unknown_name_is_refused_when_a_process_starts() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import infinity.transformer.attention_backend"],
        env=os.environ | {VARIABLE: "flsh3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{VARIABLE}: expected one of {', '.join(BACKENDS)}, got 'flsh3'" in done.stderr
    with pytest.raises(ValueError, match="expected one of auto"), use_attention("x"):  # type: ignore[arg-type]
        pass
