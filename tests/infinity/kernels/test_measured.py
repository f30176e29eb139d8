"""Kernels chosen by measured seconds; the figures are made up, nothing is timed for a verdict."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from infinity.kernels import measured, switch
from infinity.kernels.measured import choices, choose
from infinity.kernels.switch import KERNELS, Kernel, Kernels, use_kernels, uses_fast

Turns = list[tuple[float, float]]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of choices in an empty folder, with ``INFINITY_KERNELS=measured``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(switch, "_chosen", ["measured"])
    monkeypatch.setattr(measured, "choices", measured.cache(choices.__wrapped__))
    return measured.kept_at()


def measuring(slow: Kernel, asked: list[Kernel]) -> Callable[[Kernel], Turns]:
    """A processor on which the fast twin of one kernel is the slower one."""

    def seconds(kernel: Kernel) -> Turns:
        asked.append(kernel)
        return [(1.0, 2.0 if kernel == slow else 0.5)] * 7

    return seconds


@pytest.mark.parametrize(
    ("turns", "chosen"),
    [
        ([(2.0, 1.0)] * 3, "fast"),
        ([(1.0, 2.0)] * 3, "plain"),
        ([(1.0, 1.0)] * 3, "fast"),
        ([(0.99, 1.0)] * 3, "fast"),
        ([(0.9, 1.0)] * 3, "plain"),
        ([(0.5, 1.0), (1.2, 1.0), (1.3, 1.0)], "fast"),
        ([(40.0, 50.0), (0.8, 1.0), (9.0, 1.0)], "plain"),
    ],
)
def test_the_median_ratio_decides_and_a_tie_keeps_the_fast_twin(turns: Turns, chosen: Kernels) -> None:
    assert choose(turns) == chosen


@pytest.mark.parametrize("slow", KERNELS)
def test_each_kernel_is_chosen_for_itself_and_kept(slow: Kernel, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Kernel] = []
    monkeypatch.setattr(measured, "seconds", measuring(slow, asked))
    x = torch.zeros(1)
    assert [kernel for kernel in KERNELS if not uses_fast(x, kernel)] == [slow]
    assert asked == list(KERNELS)
    measured.choices.cache_clear()  # as a later process
    assert not uses_fast(x, slow)
    assert asked == list(KERNELS), "measured once"
    assert json.loads(kept.read_text())[measured.machine()][slow] == "plain"


def test_another_processor_or_torch_is_measured_again_and_both_are_kept(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Kernel] = []
    monkeypatch.setattr(measured, "seconds", measuring("upsample", asked))
    for name in ("A", "B", "A"):
        monkeypatch.setattr(measured, "machine", lambda name=name: name)
        measured.choices.cache_clear()
        measured.choices()
    assert len(asked) == 2 * len(KERNELS)
    assert set(json.loads(kept.read_text())) == {"A", "B"}


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"A": 3}', '{"A": {"upsample": "plain"}}', '{"A": {"upsample": 1}}', "[" * 100_000]
)
def test_a_damaged_file_is_measured_again(text: str, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.parent.mkdir(parents=True)
    kept.write_text(text)
    monkeypatch.setattr(measured, "machine", lambda: "A")
    monkeypatch.setattr(measured, "seconds", measuring("upsample", []))
    assert measured.choices()["upsample"] == "plain"
    assert set(json.loads(kept.read_text())["A"]) == set(KERNELS)


def test_a_choice_that_cannot_be_kept_still_holds_and_is_said(
    kept: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept.parent.parent.joinpath("infinity").write_text("a file where the folder would be")
    monkeypatch.setattr(measured, "seconds", measuring("upsample", []))
    assert measured.choices()["upsample"] == "plain"
    assert "cannot be written" in caplog.text


@pytest.mark.usefixtures("kept")
def test_a_real_measurement_gives_seconds_of_all_kernels_and_leaves_the_random_numbers_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measured, "TURNS", 1)
    before = torch.get_rng_state()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for kernel in KERNELS:
            [(plain, fast)] = measured.seconds(kernel)
            assert plain > 0
            assert fast > 0
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("kept")
def test_a_block_of_code_overrides_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "seconds", measuring("upsample", []))
    with use_kernels("fast"):
        assert uses_fast(torch.zeros(1), "upsample")
    with use_kernels("plain"):
        assert not uses_fast(torch.zeros(1), "feed_forward")


@pytest.mark.usefixtures("kept")
def test_weights_and_tensors_of_a_kind_of_their_own_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "seconds", measuring("upsample", []))
    assert uses_fast(torch.nn.Parameter(torch.zeros(1)), "upsample")
    assert uses_fast(torch.zeros(1), "feed_forward")


def test_choices_are_kept_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert measured.kept_at() == tmp_path / "cache" / "infinity" / "kernels.json"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert measured.kept_at() == tmp_path / "home" / ".cache" / "infinity" / "kernels.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert measured.kept_at() == tmp_path / "home" / ".cache" / "infinity" / "kernels.json"
