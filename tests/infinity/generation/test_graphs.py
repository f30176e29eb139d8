"""Laws of drawing with captured graphs, shown with a stand-in that repeats recorded operations on their memory."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from infinity.generation import Generated, SamplingConfig, generate, graphs
from infinity.generation.graphs import CudaRecorder, ScaleGraphs, capture_scales, graphs_of
from infinity.generation.steering import LaterText, ScaleDone, Steering
from infinity.tokenizer import Tokenizer
from infinity.transformer.number_formats.precision import store_products_as
from tests.fixtures.models.recorded_kernels import StandIn
from tests.fixtures.models.tiny_pipeline import PROMPTS, SCHEDULE, tiny_parts, tiny_tokenizer

FIRST, SECOND = (PROMPTS[0], PROMPTS[2]), (PROMPTS[3], PROMPTS[1])
SETTINGS = {
    "guided": SamplingConfig(guidance=3.0),
    "not guided": SamplingConfig(guidance=1.0),
    "guided at first": SamplingConfig(guidance=(3.0, 3.0, 1.0, 1.0)),
    "guided in a block": SamplingConfig(guidance=2.0, guide_logits=False, guided_blocks=(0,)),
    "greedy": SamplingConfig(guidance=3.0, greedy=True),
    "cooled": SamplingConfig(guidance=(1.0, 2.0, 3.0, 4.0), temperature=(1.0, 0.5, 0.5, 2.0), nucleus=1.0),
}
MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "learned positions": {"positions": "learned"},
    "joint head": {"head": "joint"},
    "scale embedding": {"scale_embedding_period": 1},
}


def draw(parts: Any, prompts: Any, sampling: SamplingConfig, seed: int, **options: Any) -> Generated:
    seeds = [seed + i for i in range(len(prompts))]
    return generate(*parts, prompts, schedule=SCHEDULE, sampling=sampling, seeds=seeds, **options)


def captured(**changes: object) -> tuple[Any, StandIn]:
    parts, recorder = tiny_parts(**changes), StandIn()
    capture_scales(parts[0], recorder)
    return parts, recorder


PAIRS = [("plain", name) for name in SETTINGS] + [(name, "guided at first") for name in MODELS if name != "plain"]


@pytest.mark.parametrize(("model", "setting"), PAIRS)
def test_a_repeated_recording_draws_the_bits_of_other_prompts_and_seeds(model: str, setting: str) -> None:
    changes, sampling = MODELS[model], SETTINGS[setting]
    plain, (parts, recorder) = tiny_parts(**changes), captured(**changes)
    for number, (prompts, seed) in enumerate(((FIRST, 1), (FIRST, 1), (SECOND, 5), (FIRST, 9))):
        expected, found = draw(plain, prompts, sampling, seed), draw(parts, prompts, sampling, seed)
        assert torch.equal(found.labels.bits_BLC, expected.labels.bits_BLC), number
        assert torch.equal(found.images_BHW3, expected.images_BHW3), number
    assert len(recorder.recordings) == SCHEDULE.num_scales
    assert recorder.replays == 3 * SCHEDULE.num_scales


def _tensors(thing: object, seen: dict[int, object] | None = None) -> Iterator[Tensor]:
    """Yield every tensor that an object holds, but those of a model."""
    seen = {} if seen is None else seen
    if id(thing) in seen or isinstance(thing, torch.nn.Module) or callable(thing):
        return
    seen[id(thing)] = thing  # held, so that no other gets its number
    if isinstance(thing, Tensor):
        yield thing
    elif is_dataclass(thing):
        for field in fields(thing):
            yield from _tensors(getattr(thing, field.name), seen)
    elif isinstance(thing, list | tuple):
        for each in thing:
            yield from _tensors(each, seen)
    elif isinstance(thing, dict):
        yield from _tensors(list(thing.values()), seen)
    elif hasattr(thing, "__dict__"):
        yield from _tensors(vars(thing), seen)


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_recordings_read_only_memory_that_is_held_and_may_lose_all_other(changes: dict[str, Any]) -> None:
    """What a recording reads is made by itself, a weight, or held beside the graphs; the rest is overwritten here."""
    parts, recorder = captured(**changes)
    sampling = SETTINGS["guided at first"]
    for _ in range(2):
        draw(parts, FIRST, sampling, 1)
    (form,) = graphs_of(parts[0])._forms.values()  # type: ignore[union-attr]
    weights = [*parts[0].parameters(), *parts[0].buffers()]
    held = {each.untyped_storage()._cdata for each in (*_tensors(form), *weights)}
    gc.collect()
    for number, recording in enumerate(recorder.recordings):
        assert recording.read.keys() <= held, number
    expected = draw(tiny_parts(**changes), SECOND, sampling, 7)
    for recording in recorder.recordings:
        recording.spoil(held)
    assert torch.equal(draw(parts, SECOND, sampling, 7).labels.bits_BLC, expected.labels.bits_BLC)


def test_results_are_copies_that_later_batches_do_not_change() -> None:
    (transformer, tokenizer, encoder), _ = captured()
    parts = transformer, tokenizer, encoder
    draw(parts, FIRST, SETTINGS["guided"], 1)
    first = draw(parts, FIRST, SETTINGS["guided"], 1)
    kept = first.labels.bits_BLC.clone()
    draw(parts, SECOND, SETTINGS["guided"], 2)
    assert torch.equal(first.labels.bits_BLC, kept)


def test_callbacks_see_every_scale_of_a_repeated_recording() -> None:
    parts, _ = captured()
    sums: list[Tensor] = []
    shares: list[float] = []

    def seen(done: ScaleDone) -> None:
        sums.append(done.summed_BCHW.clone())

    for _ in range(2):
        sums.clear()
        shares.clear()
        drawn = draw(parts, FIRST, SETTINGS["guided"], 1, progress=shares.append, steering=Steering(on_scale=seen))
    assert len(shares) == len(sums) == SCHEDULE.num_scales
    assert shares[-1] == 1.0
    tokenizer: Tokenizer = tiny_tokenizer()
    assert torch.allclose(sums[-1], tokenizer.sum_codes(drawn.labels), atol=1e-6)


def test_each_form_of_call_is_captured_once_and_few_are_held() -> None:
    parts, recorder = captured()
    forms = [(FIRST, 3.0), (FIRST[:1], 3.0), (FIRST, 1.0), (FIRST, 2.0)]
    for prompts, guidance in forms * 2:
        draw(parts, prompts, SamplingConfig(guidance=guidance), 1)
    assert len(recorder.recordings) == len(forms) * SCHEDULE.num_scales
    found = graphs_of(parts[0])
    assert found is not None
    assert sum(form is not None for form in found._forms.values()) == graphs.MOST_FORMS


def test_weights_that_change_in_place_are_seen_and_moved_ones_captured_again() -> None:
    parts, recorder = captured()
    for _ in range(2):
        draw(parts, FIRST, SETTINGS["guided"], 1)
    changed = tiny_parts()
    for transformer in (parts[0], changed[0]):
        with torch.no_grad():
            transformer.blocks[0].feed_forward.expand.weight.mul_(1.5)
    expected = draw(changed, FIRST, SETTINGS["guided"], 1)
    assert torch.equal(draw(parts, FIRST, SETTINGS["guided"], 1).labels.bits_BLC, expected.labels.bits_BLC)
    assert len(recorder.recordings) == SCHEDULE.num_scales
    for weights in parts[0].parameters():
        weights.data = weights.data.clone()
    assert torch.equal(draw(parts, FIRST, SETTINGS["guided"], 1).labels.bits_BLC, expected.labels.bits_BLC)
    assert len(recorder.recordings) == 2 * SCHEDULE.num_scales


def test_what_steers_the_bits_runs_without_recordings() -> None:
    parts, recorder = captured()
    text = parts[2].encode(SECOND)
    steered = {"steering": Steering(later=LaterText(2, text))}
    pruned = SamplingConfig(guidance=3.0, pruned=(0.5,))
    for options, sampling in ((steered, SETTINGS["guided"]), ({}, pruned)):
        for _ in range(3):
            found = draw(parts, FIRST, sampling, 1, **options)
        assert torch.equal(found.labels.bits_BLC, draw(tiny_parts(), FIRST, sampling, 1, **options).labels.bits_BLC)
    assert not recorder.recordings


def test_in_bfloat16_a_recording_repeats_itself_bit_for_bit() -> None:
    parts, recorder = captured()
    store_products_as(parts[0], torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        drawn = [draw(parts, FIRST, SETTINGS["guided"], 1).labels.bits_BLC for _ in range(3)]
        other = draw(parts, SECOND, SETTINGS["guided"], 1).labels.bits_BLC
    assert torch.equal(drawn[1], drawn[2])
    assert not torch.equal(drawn[2], other)
    assert len(recorder.recordings) == SCHEDULE.num_scales


class Waiting(StandIn):
    """Refuses after some scales, as a card does where the host waits for it."""

    def record(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        if len(self.recordings) == 2:
            return super().record(lambda: float(torch.ones(()).sum()))
        return super().record(work)


def test_a_failed_capture_is_one_line_in_the_log_and_pictures_come_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = tiny_parts()
    capture_scales(parts[0], Waiting())
    expected = draw(tiny_parts(), FIRST, SETTINGS["guided"], 1)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            found = draw(parts, FIRST, SETTINGS["guided"], 1)
            assert torch.equal(found.labels.bits_BLC, expected.labels.bits_BLC)
    (record,) = caplog.records
    assert "captured graphs: aten::_local_scalar_dense waits" in record.message
    assert "drawn without them" in record.message


def test_without_a_card_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    parts = tiny_parts()
    capture_scales(parts[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            draw(parts, FIRST, SETTINGS["guided"], 1)
    (record,) = caplog.records
    assert "need a cuda device, the model is on cpu" in record.message
    assert isinstance(graphs_of(parts[0])._recorder, CudaRecorder)  # type: ignore[union-attr]


def test_a_second_thread_does_not_draw_on_the_same_memory() -> None:
    parts, recorder = captured()
    for _ in range(2):
        draw(parts, FIRST, SETTINGS["guided"], 1)
    found = graphs_of(parts[0])
    assert isinstance(found, ScaleGraphs)
    with found._busy:  # as if another thread drew
        expected = draw(tiny_parts(), SECOND, SETTINGS["guided"], 3)
        assert torch.equal(draw(parts, SECOND, SETTINGS["guided"], 3).labels.bits_BLC, expected.labels.bits_BLC)
    assert recorder.replays == SCHEDULE.num_scales
