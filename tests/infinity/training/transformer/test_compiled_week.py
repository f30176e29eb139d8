"""A week of training in miniature, as the compiler sees it: ordinary events must not make it give up."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters
from torch._functorch.aot_autograd import make_boxed_func
from torch._functorch.partitioners import min_cut_rematerialization_partition

from infinity.scales import ASPECT_RATIOS, ScaleSchedule, published_schedule
from infinity.training.transformer import engine
from infinity.training.transformer.engine import EngineConfig
from infinity.transformer import Transformer
from tests.fixtures.models.tiny_transformer import random_inputs, random_text, random_transformer, tiny_config

CONFIG = tiny_config(depth=2, drop_path=0.2)
CPU = torch.device("cpu")
LENGTHS = ((3, 5, 2), (4, 4, 4), (7,), (8, 1), (1,), (1, 1, 1), (2, 6, 1), (5, 5))
"""Captions of a micro-batch: of different and equal lengths, a small last one, one with an excluded sample."""


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Graphs that were compiled, by a compiler that runs them as they are."""
    torch._dynamo.reset()
    counters.clear()
    seen: list[Any] = []
    compile_ = torch.compile

    def as_it_is(graph: torch.fx.GraphModule, _: Any) -> Any:
        seen.append(graph)
        return graph.forward

    def compiled(function: Any, **options: Any) -> Any:
        return compile_(function, backend=as_it_is, **options)

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(engine, "check_compiler", lambda device: None)
    limit = torch._dynamo.config.recompile_limit
    yield seen
    torch._dynamo.config.recompile_limit = limit
    torch._dynamo.reset()
    counters.clear()


def _trained() -> Transformer:
    model = random_transformer(CONFIG).train()
    engine.set_up(model, EngineConfig(compile=True, attention="dense"), CPU)
    return model


def _step(model: Transformer, schedule: ScaleSchedule, lengths: tuple[int, ...], *, recompute: bool = False) -> None:
    logits = model(
        random_text(lengths),
        random_inputs(schedule, len(lengths)),
        schedule,
        generator=torch.Generator().manual_seed(1),
        recompute=recompute,
    )
    logits.sum().backward()
    model.zero_grad()


@torch.no_grad()
def _sheet_and_validation(model: Transformer, schedule: ScaleSchedule) -> None:
    model.eval()
    text, inputs = random_text((3, 5)), random_inputs(schedule, 2)
    decoding, first = model.start_decoding(text, schedule), schedule.spans[0].stop
    for k, span in enumerate(schedule.spans):
        model.decode_scale(decoding, k, inputs[:, span.start - first : span.stop - first] if k else None)
    model(text, inputs, schedule)
    model.train()


@pytest.mark.filterwarnings("ignore")  # the compiler has some of its own
@pytest.mark.parametrize("recompute", [False, True])
def test_a_week_of_ordinary_events_takes_at_most_four_graphs(
    graphs: list[Any], recompute: bool, exhaustive: bool
) -> None:
    """Five of fifteen aspect ratios, square to 0.4; all of them with --exhaustive."""
    if recompute and not exhaustive:
        pytest.skip("gradients of compiled checkpointing are compared below; --exhaustive runs its week too")
    for _resumed in range(2):
        model = _trained()
        for number, ratio in enumerate(ASPECT_RATIOS if exhaustive else ASPECT_RATIOS[::3]):
            schedule = published_schedule(ratio, "256").prefix(4)
            for lengths in (LENGTHS[number % len(LENGTHS)], LENGTHS[(3 * number + 1) % len(LENGTHS)]):
                _step(model, schedule, lengths, recompute=recompute)
            if number % 7 == 3:
                _sheet_and_validation(model, schedule)
    assert 1 <= len(graphs) <= 4
    assert not counters["graph_break"]
    assert not counters["recompile_limit"]
    assert counters["frames"]["total"] == counters["frames"]["ok"] == len(graphs), "some calls were not compiled"


@pytest.mark.filterwarnings("ignore")
def test_the_form_for_compilers_changes_no_logit_beyond_rounding(graphs: list[Any]) -> None:
    schedule = published_schedule(1.0, "256").prefix(4)
    plain, compiled = random_transformer(CONFIG).train(), _trained()
    for lengths in LENGTHS[1:3]:
        found, expected = (
            model(
                random_text(lengths),
                random_inputs(schedule, len(lengths)),
                schedule,
                generator=torch.Generator().manual_seed(2),
            )
            for model in (compiled, plain)
        )
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert graphs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("attention", ["dense", "windows"])
def test_compiled_checkpointing_has_the_gradients_of_a_plain_step(
    monkeypatch: pytest.MonkeyPatch, attention: Any, exhaustive: bool
) -> None:
    """The graphs are divided as for a card: attention and a product are kept, all else is computed again."""
    if attention == "windows" and not exhaustive:
        pytest.skip("one kernel is compiled by default; --exhaustive compiles this one too")
    compile_, config, graphs = torch.compile, CONFIG.replace(depth=1), list[torch.fx.GraphModule]()

    def as_it_is(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return make_boxed_func(graph.forward)

    divided = aot_autograd(fw_compiler=as_it_is, bw_compiler=as_it_is, partition_fn=min_cut_rematerialization_partition)
    monkeypatch.setattr(torch, "compile", lambda function, **options: compile_(function, backend=divided, **options))
    monkeypatch.setattr(engine, "check_compiler", lambda device: None)
    torch._dynamo.reset()
    counters.clear()
    schedule, found = published_schedule(1.0, "256").prefix(3), []
    for model in (random_transformer(config).train(), random_transformer(config).train()):
        if found:
            engine.set_up(model, EngineConfig(compile=True, attention=attention), CPU)
        model.one_form = True
        logits = model(
            random_text((3, 5)),
            random_inputs(schedule, 2),
            schedule,
            generator=torch.Generator().manual_seed(1),
            recompute=True,
        )
        logits.square().sum().backward()
        found.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert counters["stats"]["unique_graphs"] >= 1
    assert not counters["graph_break"]
    backward = graphs[-1]
    names = [str(node.target) for node in backward.graph.nodes]
    assert sum("attention_backward" in name or "for_cpu_backward" in name for name in names) >= 2
    assert not [name for name in names if "attention" in name and "backward" not in name], "attention is computed again"
    assert any("gelu.default" in name for name in names), "the feed-forward is not computed again"
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))
