"""Traces count what is alive, without memory, and leave nothing behind."""

import pytest
import torch
from torch import nn

from infinity.jobs.estimate.tracing import LiveBytes, tracing
from infinity.scales import Resolution
from infinity.transformer.loss import scale_weights
from infinity.transformer.scale_attention import attention_mask

MEGA = 2**20


def test_a_number_that_a_program_looks_at_is_one_of_its_kind_and_a_truth_is_false() -> None:
    with LiveBytes():
        found = [torch.tensor(value).item() for value in (5, 2.5, float("nan"), True)]
    assert found == [1, 1.0, 1.0, False]
    assert [type(value) for value in found] == [int, float, float, bool]


def test_peaks_and_what_is_kept_are_counted_to_the_byte() -> None:
    held = []

    def piece() -> None:
        first = torch.zeros(MEGA)  # 4 MiB
        second = first * 2  # 4 MiB beside it
        held.append(second[: MEGA // 2])  # a view keeps all of it
        del first
        torch.zeros(MEGA // 2)  # 2 MiB, when the first is gone

    with tracing() as trace:
        before = torch.zeros(MEGA)
        found = trace(piece)
        assert found.peak_bytes == (4 + 4 + 4) * MEGA
        assert found.kept_bytes == 4 * MEGA
        held.clear()
        assert trace.now == before.nbytes


def test_activations_for_the_backward_pass_are_alive_until_it() -> None:
    with tracing() as trace:
        layers = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(3)), nn.Linear(1024, 1))
        inputs = torch.zeros(1024, 1024)
        weights = trace.now
        assert weights == 3 * 4 * MEGA + 4 * 1025 + 4 * MEGA
        forward = trace(lambda: layers(inputs))
        assert forward.peak_bytes - weights >= 3 * 4 * MEGA  # outputs of the linear maps are inputs of the next
        whole = trace(lambda: layers(inputs).sum().backward())
        assert whole.kept_bytes == 3 * 4 * MEGA + 4 * 1025  # gradients


def test_a_model_larger_than_this_machine_is_traced() -> None:
    with tracing() as trace:
        layer = nn.Linear(2**20, 2**20, bias=False)
        assert trace.now == 4 * 2**40
        assert layer.to(memory_format=torch.contiguous_format).weight.shape == (2**20, 2**20)


def test_numbers_that_a_program_looks_at_are_harmless() -> None:
    with tracing():
        assert float(torch.zeros(()) * torch.nan) == 1.0
        assert torch.zeros(2).tolist() == [1.0, 1.0]


def test_products_are_counted() -> None:
    with tracing() as trace:
        a, b = torch.zeros(8, 16), torch.zeros(16, 4)
        assert trace.flops(lambda: a @ b) == 2 * 8 * 16 * 4


@pytest.mark.parametrize("fails", [False, True])
def test_tables_and_modules_are_real_again_afterwards(fails: bool) -> None:
    schedule = Resolution(sides=(1, 2)).schedule(1.0)
    apply = nn.Module._apply
    try:
        with tracing():
            assert attention_mask(schedule, torch.device("cpu")).chunks[0].bias is not None
            if fails:
                raise RuntimeError("in the middle")
    except RuntimeError:
        pass
    bias = attention_mask(schedule, torch.device("cpu")).chunks[0].bias
    assert type(bias) is torch.Tensor
    assert type(scale_weights(schedule)) is torch.Tensor
    assert nn.Module._apply is apply
