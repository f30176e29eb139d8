"""Laws of memory budgets."""

import logging
import os

import pytest
import torch
from torch import Tensor, nn

from infinity import budget
from infinity.budget import VARIABLE, in_passes, per_pass, working_bytes
from infinity.generation import SamplingConfig, generate
from infinity.generation.memory import picture_bytes
from infinity.generation.passes import generate_in_passes
from infinity.presets import tokenizer_preset, transformer_preset
from infinity.scales import published_schedule
from infinity.tokenizer import Tokenizer
from tests.fixtures.models.tiny_pipeline import PROMPTS, SCHEDULE, SEEDS, tiny_parts, tiny_tokenizer

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("total", "each", "limit", "expected"),
    [(32, 1, 32, 32), (32, 1, 31, 16), (32, 10, 100, 8), (5, 2, 5, 2), (3, 10, 1, 1), (1, 0, 0, 1), (7, 1, 6, 4)],
)
def test_passes_fit_and_are_about_equal(total: int, each: int, limit: int, expected: int) -> None:
    assert per_pass(total, each, limit, what="items") == expected


def test_a_cut_batch_is_told_once_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "infinity.budget"):
        for _ in range(2):
            per_pass(9, 10**9, 4 * 10**9, what="pictures of this test")
    assert caplog.messages == [
        "pictures of this test: 3 at once of 9, since each takes about 1.00 GB of a budget of 4.0 GB "
        "(INFINITY_MEMORY_GB sets another)"
    ]


def test_the_budget_is_a_share_of_free_memory_or_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(budget, "free_bytes", lambda device: 1000)
    assert working_bytes(CPU) == 800
    assert working_bytes(CPU, 500) == 500
    monkeypatch.setenv(VARIABLE, "2.5")
    assert working_bytes(CPU, 500) == 2_500_000_000


@pytest.mark.parametrize("value", ["", "0", "-1", "nan", "inf", "8GB"])
def test_a_budget_that_is_no_number_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ValueError, match="expected a positive number of GB"):
        working_bytes(CPU)


def test_this_machine_tells_its_free_memory() -> None:
    found = budget.free_bytes(CPU)
    assert found > 0
    if os.path.exists("/proc/meminfo"):
        assert found < 2**50


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("is_last", [False, True])
def test_passes_give_the_same_values_in_the_same_layout(size: int, is_last: bool) -> None:
    batch = torch.randn(7, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    if is_last:
        batch = batch.contiguous(memory_format=torch.channels_last)

    def double(some: Tensor) -> Tensor:
        assert len(some) <= size
        return some * 2

    found = in_passes(double, batch, size)
    assert torch.equal(found, batch * 2)
    assert found.is_contiguous(memory_format=torch.channels_last) == is_last


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device on which one picture at a time fits."""
    monkeypatch.setattr(budget, "free_bytes", lambda device: 1)


def test_a_tokenizer_with_memory_for_one_encodes_and_decodes_one_by_one_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = tiny_tokenizer()
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        features = tokenizer.encode(images)
        pixels = tokenizer.decode(features)
        monkeypatch.setattr(budget, "free_bytes", lambda device: int(1.5 * tokenizer.pass_bytes((16, 16))))
        sizes = _passes(tokenizer.encoder), _passes(tokenizer.decoder)
        torch.testing.assert_close(tokenizer.encode(images), features, atol=1e-4, rtol=0)
        torch.testing.assert_close(tokenizer.decode(features), pixels, atol=1e-4, rtol=0)
    assert sizes == ([1] * 5, [1] * 5)
    tokenizer.encode(images)
    assert sizes[0][-1] == 5, "with gradients a batch is whole"


@pytest.mark.usefixtures("tight")
def test_a_picture_that_alone_does_not_fit_goes_in_bands_to_the_same_result(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny_tokenizer()
    monkeypatch.setattr(budget, "_told", set())
    images = torch.rand(3, 3, 16, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        features = tokenizer.encoder(images)
        pixels = tokenizer.decoder(features).clamp(-1, 1)
        sizes = _passes(tokenizer.encoder), _passes(tokenizer.decoder)
        with caplog.at_level("INFO", logger="infinity.budget"):
            torch.testing.assert_close(tokenizer.encode(images), features, atol=1e-4, rtol=0)
            torch.testing.assert_close(tokenizer.decode(features), pixels, atol=1e-4, rtol=0)
    assert sizes == ([], []), "no network saw a whole picture"
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["pictures encoded", "pictures decoded"]
    assert "in bands of rows" in caplog.records[0].getMessage()


def _passes(network: nn.Module) -> list[int]:
    sizes: list[int] = []
    network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    return sizes


@pytest.mark.usefixtures("tight")
def test_drawing_without_memory_goes_one_by_one_to_the_same_bits() -> None:
    expected = generate(*tiny_parts(), PROMPTS, schedule=SCHEDULE, sampling=SamplingConfig(), seeds=SEEDS)
    seen: list[float] = []
    found = generate_in_passes(
        tiny_parts(), PROMPTS, schedule=SCHEDULE, sampling=SamplingConfig(), seeds=SEEDS, progress=seen.append
    )
    assert torch.equal(found.labels.bits_BLC, expected.labels.bits_BLC)
    assert len(seen) == len(PROMPTS) * SCHEDULE.num_scales
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_passes_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="4 prompts and 1 seeds"):
        generate_in_passes(tiny_parts(), PROMPTS, schedule=SCHEDULE, sampling=SamplingConfig(), seeds=(1,))


def test_memory_of_the_published_sizes() -> None:
    """What was counted on a phantom card: 5.5 GB of keys and values for a guided picture of the 2B layout."""
    config, schedule = transformer_preset("2B-released"), published_schedule(1.0, "1024")
    guided = picture_bytes(config, schedule, doubled=True, cache_dtype=torch.bfloat16)
    assert guided == pytest.approx(5.5e9 + 0.6e9, rel=0.05)
    assert picture_bytes(config, schedule, doubled=False, cache_dtype=torch.bfloat16) * 2 == guided
    with torch.device("meta"):
        assert Tokenizer(tokenizer_preset("d32")).pass_bytes((1024, 1024)) == pytest.approx(4.0e9, rel=0.05)
