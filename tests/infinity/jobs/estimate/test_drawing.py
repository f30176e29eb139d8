"""The memory of drawing, told before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinity.cli import app
from infinity.convert.catalogue import CATALOGUE
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.jobs.estimate.drawing import PUBLISHED, DrawingSetup, estimate_drawing, shapes_of
from infinity.transformer.number_formats.quantized import weight_bytes
from tests.fixtures.data.small_world import write_model

SMALL = DrawingSetup(quantize="int4", cache="int8")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_weights_are_those_of_the_loaded_model(model: str, quantize: str | None) -> None:
    found = estimate_drawing(*shapes_of(model), DrawingSetup(quantize=quantize, bfloat16=False))  # type: ignore[arg-type]
    pipeline = InfinityPipeline.from_pretrained(model, device="cpu", quantize=quantize).pipeline  # type: ignore[arg-type]
    assert found.transformer == weight_bytes(pipeline.transformer)
    assert found.tokenizer == weight_bytes(pipeline.tokenizer)
    assert (found.text_encoder, found.context) == (0, 0)


@pytest.mark.parametrize("name", ["125m", "8b-512"])
def test_every_switch_saves_memory(name: str, exhaustive: bool) -> None:
    if name != "125m" and not exhaustive:
        pytest.skip("half a minute; one model is estimated by default, --exhaustive estimates this one too")
    shapes = shapes_of(name.upper())
    plain = estimate_drawing(*shapes, DrawingSetup())
    for setup, smaller in (
        (DrawingSetup(quantize="int8"), "transformer"), (SMALL, "transformer"), (SMALL, "cache"),
        (DrawingSetup(cache="int8"), "cache"), (DrawingSetup(guided=False), "cache"),
    ):  # fmt: skip
        found = estimate_drawing(*shapes, setup)
        assert getattr(found, smaller) < 0.6 * getattr(plain, smaller)
        assert found.total <= plain.total
    several = estimate_drawing(*shapes, DrawingSetup(pictures=3))
    assert (several.cache, several.activations) == (3 * plain.cache, 3 * plain.activations)
    assert several.transformer == plain.transformer


def test_the_8b_model_fits_16_gb_and_the_2b_model_6_with_the_text_encoder_elsewhere() -> None:
    assert estimate_drawing(*shapes_of("8b"), SMALL).without_text_encoder < 16e9
    assert estimate_drawing(*shapes_of("2b"), SMALL).decoding_in_bands < 6e9
    assert estimate_drawing(*shapes_of("2b"), SMALL).decoding_in_bands > 5e9
    assert set(PUBLISHED) == {name for name, model in CATALOGUE.items() if model.transformer is not None}
    assert all(shapes_of(name)[0].resolution.size == CATALOGUE[name].size for name in PUBLISHED)


def run(*arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["estimate", *arguments])
    return found.exit_code, " ".join(found.output.split())


def test_the_command_prints_a_table_or_json(model: str, tmp_path: Path) -> None:
    code, output = run("--draw", "2b", "--quantize", "int4", "--cache", "int8", "--json")
    assert code == 0, output
    found = json.loads(output)
    assert found["total"] == estimate_drawing(*shapes_of("2b"), SMALL).total
    code, output = run("--draw", model, "--pictures", "4", "--no-bfloat16")
    assert code == 0, output
    assert "Memory of drawing 4 at once" in output
    for arguments, message in (
        (("--draw", str(tmp_path / "nowhere")), "expected a model folder"),
        (("--draw", "2b", "--recipe", "demo"), "--draw: expected no spec file and no --recipe beside it"),
        (("--draw", "2b", "--aspect-ratio", "-1"), "expected height / width"),
        (("--draw", "2b", "--quantize", "int2"), "expected int8 or int4 or float8, got 'int2'"),
    ):
        code, output = run(*arguments)
        assert code != 0
        assert message in output
