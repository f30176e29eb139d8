"""Laws of inference in bfloat16."""

from pathlib import Path

import pytest
import torch

from infinity import InfinityPipeline
from infinity.generation import SamplingConfig, generate
from infinity.generation.pipeline import Pipeline
from infinity.transformer.number_formats.precision import check_bfloat16, store_products_as
from tests.fixtures.models.tiny_pipeline import PROMPTS, SCHEDULE, SEEDS, tiny_parts

IN_BFLOAT16 = torch.autocast("cpu", torch.bfloat16)


def test_weights_stored_in_bfloat16_give_the_bits_of_autocast() -> None:
    parts = tiny_parts()
    with IN_BFLOAT16:
        expected = generate(*parts, PROMPTS, schedule=SCHEDULE, sampling=SamplingConfig(), seeds=SEEDS)
    before = sum(weight.nbytes for weight in parts[0].parameters())
    store_products_as(parts[0], torch.bfloat16)
    with IN_BFLOAT16:
        found = generate(*parts, PROMPTS, schedule=SCHEDULE, sampling=SamplingConfig(), seeds=SEEDS)
    assert torch.equal(found.labels.bits_BLC, expected.labels.bits_BLC)
    assert torch.equal(found.images_BHW3, expected.images_BHW3)
    assert sum(weight.nbytes for weight in parts[0].parameters()) < 0.9 * before
    for name in ("head", "modulate", "token_project", "start", "scale_embedding"):
        weights = parts[0].get_submodule(name).weight if hasattr(getattr(parts[0], name), "weight") else None
        assert (getattr(parts[0], name) if weights is None else weights).dtype == torch.float32, name


def test_bfloat16_is_refused_where_it_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    check_bfloat16(torch.device("cuda"))
    monkeypatch.setattr("infinity.transformer.number_formats.precision._has_instructions", lambda: False)
    with pytest.raises(ValueError, match="would emulate it"):
        check_bfloat16(torch.device("cpu"))


def test_an_unknown_data_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one of auto, float32, bfloat16, got 'float16'"):
        InfinityPipeline.from_pretrained(str(tmp_path), dtype="float16")  # type: ignore[arg-type]


def test_a_pipeline_computes_in_the_type_it_was_loaded_for() -> None:
    config: object = None
    for bfloat16 in (False, True):
        with Pipeline(config, *tiny_parts(), bfloat16=bfloat16).autocast():  # type: ignore[arg-type]
            assert torch.is_autocast_enabled("cpu") == bfloat16
