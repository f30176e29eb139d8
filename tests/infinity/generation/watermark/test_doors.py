"""With a watermark, too, every door gives the same file, which names the key and is drawn again with it alone."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.drawn.comfyui_host import load_custom_node, run_node
from infinity import InfinityPipeline
from infinity.cli import app
from infinity.generation.drawing.own_pictures import source_of
from infinity.generation.drawing.redo import OtherModelError, redo
from infinity.generation.files.picture_files import read_drawing
from infinity.generation.watermark import BitWatermark, read_watermark_key
from infinity.serving.batcher import QueuedPicture
from infinity.serving.drawing import DrawingRoom, OnePicture
from infinity.serving.inputs import picture_request
from infinity.serving.settings import ServingConfig
from tests.fixtures.data.small_world import write_model

PROMPT, STRENGTH = "a red cube", 4.0
SECRET = "never to be shown by anything"
NODES = Path(__file__).resolve().parents[4] / "integrations" / "comfyui"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_text(SECRET)
    return str(path)


@pytest.fixture
def pipe(model: str, key_file: str) -> InfinityPipeline:
    watermark = BitWatermark(read_watermark_key(key_file), STRENGTH)
    return InfinityPipeline.from_pretrained(model, watermark=watermark)


def command(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    assert SECRET not in result.output
    return " ".join(result.output.split())


def test_every_door_draws_the_same_marked_picture(
    pipe: InfinityPipeline, model: str, key_file: str, tmp_path: Path
) -> None:
    alone = pipe([PROMPT, "another"], seed=3).save(tmp_path / "python")[0].read_bytes()
    assert SECRET.encode() not in alone
    marked = ("--watermark-key-file", key_file, "--watermark-strength", STRENGTH)
    command("generate", "-c", model, "-p", PROMPT, "--seed", 3, "-o", tmp_path / "cli", *marked)
    (file,) = (tmp_path / "cli").iterdir()
    assert file.read_bytes() == alone
    config = ServingConfig(model=model, device="cpu", watermark_key=key_file, watermark_strength=STRENGTH)
    request = picture_request({"prompt": PROMPT, "seed": 3}, config, edits=False)
    waiting = QueuedPicture(None, OnePicture(PROMPT, 3, request), result=cast(Any, None))
    assert [each.png for each in DrawingRoom(config).compute([waiting])] == [alone]
    nodes = load_custom_node(NODES)
    inputs = {"model": model, "device": "cpu", "watermark_key_file": key_file, "watermark_strength": STRENGTH}
    (loaded,) = run_node(nodes["InfinityLoadModel"], inputs)
    images, _ = run_node(nodes["InfinityDraw"], {"model": loaded, "prompt": PROMPT, "seed": 3})
    assert np.array_equal((images[0].numpy() * 255).round(), np.asarray(Image.open(file)))
    pipe.watermark = None
    assert not np.array_equal(pipe(PROMPT, seed=3, output_type="np").pixels()[0], np.asarray(Image.open(file)))


def test_a_file_names_the_key_and_is_drawn_again_with_it_alone(
    pipe: InfinityPipeline, model: str, key_file: str, tmp_path: Path
) -> None:
    (file,) = pipe(PROMPT, seed=5).save(tmp_path / "marked")
    settings = read_drawing(file)
    assert settings.watermark is not None
    assert (settings.watermark.key_id, settings.watermark.strength) == (read_watermark_key(key_file).id, STRENGTH)
    command("redo", file, "-c", model, "-o", tmp_path / "again", "--watermark-key-file", key_file)
    (again,) = (tmp_path / "again").iterdir()
    assert again.read_bytes() == file.read_bytes()
    assert settings.watermark.key_id in command("redo", file, "-c", model, "-o", tmp_path / "x", code=1)
    pipe.watermark = None
    with pytest.raises(OtherModelError, match="no watermark"):
        redo(pipe, settings)
    (plain,) = pipe(PROMPT, seed=5).save(tmp_path / "plain")
    assert b"watermark" not in plain.read_bytes()
    command("redo", plain, "-c", model, "-o", tmp_path / "replain", "--watermark-key-file", key_file)


def test_an_edit_is_marked_where_it_is_drawn_and_keeps_all_other_bits(
    pipe: InfinityPipeline, model: str, key_file: str, tmp_path: Path
) -> None:
    (file,) = pipe(PROMPT, seed=5).save(tmp_path / "marked")
    source = source_of(pipe, file.read_bytes(), where="file")
    mask = np.zeros((24, 24), bool)
    mask[:, :8] = True
    drawn = pipe(PROMPT, seed=5)
    result = pipe.edit(drawn, mask, "a blue ball")
    assert (source.labels.bits_BLC == drawn.bits.bits_BLC).all()
    (edited,) = result.save(tmp_path / "edited")
    again = redo(pipe, read_drawing(edited))
    assert (again.bits.bits_BLC == result.bits.bits_BLC).all()
    last = result.bits.scale(3)
    assert (last[:, :, 3:] == drawn.bits.scale(3)[:, :, 3:]).all()


def test_detect_and_new_key_say_what_they_find(model: str, key_file: str, tmp_path: Path) -> None:
    assert "key" in command("watermark", "new-key", tmp_path / "key")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert "never replaced" in command("watermark", "new-key", tmp_path / "key", code=1)
    Image.new("RGBA", (30, 50), "red").save(tmp_path / "red.png")
    told = command("watermark", "detect", tmp_path / "red.png", "-c", model, "--key-file", tmp_path / "key")
    assert "no watermark found, p = 10^" in told
    (tmp_path / "text.png").write_text("no picture")
    wrong = ("watermark", "detect", tmp_path / "text.png", "-c", model, "--key-file")
    assert "expected a picture" in command(*wrong, key_file, code=1)
    assert "absent" in command(*wrong, tmp_path / "absent", code=1)
    assert "NO_SUCH_KEY" in command(*wrong, "env:NO_SUCH_KEY", code=1)
    assert "--threshold" in command(*wrong, key_file, "--threshold", 2, code=1)
    assert "--watermark-key-file" in command("generate", "-c", model, "-p", "a", "--watermark-strength", 2, code=1)
