"""Laws of drawing with compiled blocks; the compiler of these tests runs the traced graphs as they are."""

from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.utils import counters

from infinity.generation import SamplingConfig, generate
from infinity.generation.compiled import compile_for_drawing
from infinity.scales import published_schedule
from tests.fixtures.models.tiny_pipeline import PROMPTS, tiny_parts

TRAILING = (3.0, 3.0, 1.0)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.config.recompile_limit = limit
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.filterwarnings("ignore")  # the compiler has some of its own
def test_sizes_batches_and_halved_scales_share_few_graphs_and_draw_the_same_bits(exhaustive: bool) -> None:
    """Both values of each in two drawings; all four with --exhaustive."""
    plain, compiled = tiny_parts(), tiny_parts()
    compile_for_drawing(*compiled[:2], backend="eager")
    pairs = [(ratio, how) for ratio in (1.0, 0.5) for how in ((3, 3.0), (2, TRAILING))]
    for ratio, (number, guidance) in pairs if exhaustive else (pairs[0], pairs[3]):
        schedule, sampling = published_schedule(ratio, "256").prefix(3), SamplingConfig(guidance=guidance)
        expected, found = (
            generate(*parts, PROMPTS[:number], schedule=schedule, sampling=sampling, seeds=range(number))
            for parts in (plain, compiled)
        )
        assert torch.equal(found.labels.bits_BLC, expected.labels.bits_BLC)
        assert torch.equal(found.images_BHW3, expected.images_BHW3)
    assert 1 <= counters["stats"]["unique_graphs"] <= 12
    assert not counters["graph_break"]
    assert not counters["recompile_limit"]
