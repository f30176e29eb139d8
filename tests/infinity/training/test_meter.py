"""What a step costs: operations as a counter finds them, and figures of the time between two logged steps."""

from __future__ import annotations

import resource
from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from infinity.scales import Resolution
from infinity.text import TextCondition
from infinity.training import meter
from infinity.training.flops import attended_pairs, forward_flops, training_flops
from infinity.training.meter import TIMED, Meter
from tests.fixtures.jobs.toy_training import Regression, loader
from tests.fixtures.models.tiny_transformer import TEXT_CHANNELS, random_transformer, tiny_config

SCHEDULE = Resolution(sides=(1, 2, 4)).schedule(1.0)
TEXT_TOKENS = 5


def test_the_formula_counts_what_a_counter_counts() -> None:
    """But for attention to invisible tokens, which a dense mask computes and no one needs."""
    config = tiny_config(drop_path=0.0, condition_drop=0.0)
    model = random_transformer(config)
    model.kernel = "dense"
    text = TextCondition.pack([torch.randn(TEXT_TOKENS, TEXT_CHANNELS)])
    inputs = torch.randn(1, SCHEDULE.num_tokens - 1, config.num_bits)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
        model(text, inputs, SCHEDULE)
    invisible = SCHEDULE.num_tokens**2 - attended_pairs(SCHEDULE)
    expected = forward_flops(config, SCHEDULE, TEXT_TOKENS) + config.depth * 4 * config.width * invisible
    assert counter.get_total_flops() == pytest.approx(expected, rel=5e-4), "but for pooling the caption"


def test_figures_before_any_step_are_no_error() -> None:
    row = Meter(torch.device("cpu")).figures(steps_left=9)
    assert (row["pictures_per_s"], row["data_wait_share"]) == (0, 0)


def test_attended_pairs_are_those_of_the_mask() -> None:
    scale = torch.repeat_interleave(torch.arange(3), torch.tensor([1, 4, 16]))
    assert attended_pairs(SCHEDULE) == int((scale[:, None] >= scale[None]).sum())


def test_a_step_costs_three_passes_of_every_picture() -> None:
    config = tiny_config()
    assert training_flops(config, SCHEDULE, [3, 5]) == 6 * forward_flops(config, SCHEDULE, 5)


def test_figures_are_those_of_the_steps_since_the_last_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.5, 2.0, 2.0, 2.5, 4.0, 10.0, 10.0, 11.0])
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: next(now)))  # other threads keep their clock
    monkeypatch.setattr(meter, "peak_flops", lambda device: 1e8)
    clock, task = Meter(torch.device("cpu")), Regression()
    for step in range(2):
        clock.start()
        clock.data_ready()
        clock.stop(task, loader(step), 16)  # this worker has half of the samples
    row = clock.figures(steps_left=7)
    assert row.keys() == TIMED
    assert (row["pictures_per_s"], row["data_wait_share"]) == (8.0, 0.25)
    assert row["tokens_per_s"] == 2 * 2 * 32 / 4.0
    assert (row["seconds_per_step"], row["rest_s"]) == (2.0, 14.0)
    assert row["tflops_per_s"] == pytest.approx(16e6 / 4.0 / 1e12)
    assert row["mfu"] == pytest.approx(16e6 / 4.0 / 1e8)
    assert row["memory_mib"] == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, rel=0.05)
    clock.start()
    clock.data_ready()
    clock.stop(task, loader(2), 8)
    assert clock.figures(steps_left=0)["pictures_per_s"] == 8.0
