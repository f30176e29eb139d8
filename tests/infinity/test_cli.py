"""The command line, run as a user runs it, on a tiny model with random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from infinity.cli import app
from infinity.generation import read_drawing
from infinity.generation.pipeline import save_model
from infinity.scales import Resolution
from infinity.text import BuiltinTextConfig
from infinity.tokenizer import Tokenizer, TokenizerConfig
from infinity.tokenizer.saved import save_tokenizer
from infinity.transformer import Transformer, TransformerConfig

BITS = 4


def tiny_tokenizer(num_bits: int = BITS) -> Tokenizer:
    config = TokenizerConfig(
        num_bits=num_bits,
        base_width=8,
        encoder_multipliers=(1, 1),
        decoder_multipliers=(1, 1),
        num_res_blocks=1,
        num_downsamples=1,
        norm_groups=4,
    )
    tokenizer = Tokenizer(config)
    tokenizer.init_weights(torch.Generator().manual_seed(0))
    return tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_tokenizer(str(folder / "tokenizer"), tiny_tokenizer())
    transformer = Transformer(
        TransformerConfig(width=16, num_heads=2, depth=1, num_bits=BITS, text_channels=128, max_text_tokens=16)
    )
    transformer.init_weights(torch.Generator().manual_seed(1))
    save_model(
        str(folder / "model"),
        transformer,
        text=BuiltinTextConfig(channels=128, max_tokens=16),
        resolution=Resolution(sides=(1, 2, 4)),
        tokenizer_uri=str(folder / "tokenizer"),
    )
    return folder / "model"


def run(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(arg) for arg in args], catch_exceptions=False)
    return result.exit_code, result.output


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_generate_writes_one_png_for_each_prompt_and_seed(model: Path, tmp_path: Path) -> None:
    code, output = run(
        "generate", "-c", model, "-p", "a red cube", "-p", "a star", "--count", 2, "-o", tmp_path / "out"
    )
    assert code == 0, output
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == [
        f"{i:03d}-{s}-seed{n}.png" for i, (s, n) in enumerate((s, n) for s in ("a-red-cube", "a-star") for n in (0, 1))
    ]
    assert all(pixels(tmp_path / "out" / name).shape == (8, 8, 3) for name in files)


def test_the_same_seed_draws_the_same_picture_and_options_reach_the_sampler(model: Path, tmp_path: Path) -> None:
    def draw(name: str, *options: object) -> np.ndarray:
        code, output = run("generate", "-c", model, "-p", "a cube", "-o", tmp_path / name, *options)
        assert code == 0, output
        return pixels(next((tmp_path / name).iterdir()))

    assert np.array_equal(draw("a"), draw("b"))
    assert not np.array_equal(draw("a"), draw("c", "--seed", 5))
    assert draw("tall", "--aspect-ratio", 2.1, "--guidance", "1..4", "--temperature", "1,0.5,0.5").shape[0] == 12
    assert np.array_equal(draw("top", "--top-p", 0.6), draw("nucleus", "--nucleus", 0.6))
    draw("features", "--guidance-layers=-1", "--negative-prompt", "blur", "--greedy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--guidance", "much"), "--guidance: expected a number, got 'much'"),
        (("--guidance", "1,2"), "at least 3"),
        (("--top-p", 0), "--top-p: expected"),
        (("--nucleus", 1.5), "--top-p: expected"),
        (("--temperature", 0), "temperature"),
        (("--guidance", "nan"), "--guidance: expected a finite number, got 'nan'"),
        (("--guidance", "1..inf"), "--guidance: expected a finite number"),
        (("--guidance", "1,1e999,1"), "--guidance: expected a finite number"),
        (("--guidance", "1e300"), "guidance of at most"),
        (("--temperature", "inf"), "--temperature: expected a finite number"),
        (("--temperature", "1e-300"), "temperature of at most"),
        (("--top-p", "nan"), "--top-p: expected"),
        (("--guidance-layers", "0.5"), "--guidance-layers: expected a whole number"),
        (("--guidance-layers", "1e30"), "--guidance-layers: expected a whole number"),
        (("--aspect-ratio", "nan"), "aspect ratio: expected height / width"),
        (("--aspect-ratio", "inf"), "aspect ratio"),
        (("--aspect-ratio", "0"), "aspect ratio"),
        (("--aspect-ratio=-1",), "aspect ratio"),
        (("--aspect-ratio", "1e-9"), "aspect ratio"),
        (("--device", "foo"), "device: expected cpu"),
    ],
)
def test_impossible_options_are_one_clear_line(
    model: Path, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    code, output = run("generate", "-c", model, "-p", "x", "-o", tmp_path, *options)
    assert code == 1
    assert message in output
    assert "Traceback" not in output


def test_reconstruct_takes_a_model_or_a_tokenizer(model: Path, tmp_path: Path) -> None:
    picture = tmp_path / "photo.png"
    Image.new("RGBA", (30, 20), (200, 10, 10, 128)).save(picture)
    code, output = run("reconstruct", picture, "-c", model, "-o", tmp_path / "a")
    assert code == 0, output
    assert " dB" in output
    code, output = run("reconstruct", picture, "-c", model / "tokenizer", "-o", tmp_path / "b")
    assert code == 1
    assert "--sides" in output
    code, output = run("reconstruct", picture, "-c", model / "tokenizer", "--sides", "1,2,4", "-o", tmp_path / "b")
    assert code == 0, output
    assert (tmp_path / "b" / "photo-reconstructed.png").read_bytes() == (
        tmp_path / "a" / "photo-reconstructed.png"
    ).read_bytes()


def test_reconstruct_names_what_is_not_a_picture(model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("not a picture")
    code, output = run("reconstruct", tmp_path / "notes.jpg", "-c", model, "-o", tmp_path)
    assert code == 1
    assert "not a picture: begins with" in output


def test_info_says_what_a_checkpoint_is(model: Path) -> None:
    code, output = run("info", model)
    assert code == 0
    assert '"tokenizer_digest"' in output
    assert "parameters" in output


def copy_of(model: Path, target: Path) -> Path:
    for path in model.rglob("*"):
        if path.is_file():
            (target / path.relative_to(model)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(model)).write_bytes(path.read_bytes())
    return target


def test_a_damaged_checkpoint_is_refused_by_its_checksum(model: Path, tmp_path: Path) -> None:
    broken = copy_of(model, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors.pop("start")
    save_file(tensors, broken / "model.safetensors")
    code, output = run("generate", "-c", broken, "-p", "x", "-o", tmp_path)
    assert code == 1
    assert "model.safetensors" in output


def test_a_tokenizer_of_another_bit_width_is_refused(model: Path, tmp_path: Path) -> None:
    mixed = copy_of(model, tmp_path / "mixed")
    for path in (mixed / "tokenizer").iterdir():
        path.unlink()
    save_tokenizer(str(mixed / "tokenizer"), tiny_tokenizer(num_bits=6))
    code, output = run("generate", "-c", mixed, "-p", "x", "-o", tmp_path)
    assert code == 1
    assert "trained with tokenizer" in output


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    code, output = run("info", tmp_path)
    assert code == 1
    assert str(tmp_path) in output.replace("\n", "")


def test_report_draws_nothing_without_a_summary(tmp_path: Path) -> None:
    code, output = run("report", tmp_path)
    assert code == 1
    assert "summary.json" in output.replace("\n", "")


def test_run_refuses_a_file_that_is_no_spec(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"kind": "magic", "spec": {}}))
    code, _ = run("run", tmp_path / "spec.json")
    assert code == 1


def test_a_tokenizer_goes_out_and_comes_back_bit_for_bit(tmp_path: Path) -> None:
    config = TokenizerConfig(
        num_bits=4,
        base_width=32,
        encoder_multipliers=(1, 2),
        decoder_multipliers=(1, 2),
        num_res_blocks=1,
        num_downsamples=1,
    )
    tokenizer = Tokenizer(config)
    tokenizer.init_weights(torch.Generator().manual_seed(0))
    save_tokenizer(str(tmp_path / "ours"), tokenizer)
    code, output = run("published", "export", tmp_path / "ours", tmp_path / "theirs.pth")
    assert code == 0, output
    assert set(torch.load(tmp_path / "theirs.pth", weights_only=True)) == {"vae"}
    code, output = run("published", "import-tokenizer", tmp_path / "theirs.pth", tmp_path / "again")
    assert code == 0, output
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "again"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_drawings_of_other_settings_prompts_and_seeds_stand_beside_each_other(
    model: Path, tmp_path: Path, exhaustive: bool
) -> None:
    """Every prompt without options, and every option with one prompt; each with each where all cases run."""
    prompts = ("красный", "赤い立方体", "!?", "a cube", "A cube!")
    choices: dict[tuple[object, ...], tuple[object, ...]] = {
        (): (3.0, 0, 1.0, (8, 8)),
        ("--guidance", "5"): (5.0, 0, 1.0, (8, 8)),
        ("--seed", 3): (3.0, 3, 1.0, (8, 8)),
        ("--temperature", "0.2"): (3.0, 0, 0.2, (8, 8)),
        ("--aspect-ratio", 2): (3.0, 0, 1.0, (6, 12)),
    }
    cases = [(p, c) for p in prompts for c in choices if exhaustive or p == prompts[0] or c == ()]
    for prompt, options in cases:
        code, output = run("generate", "-c", model, "-p", prompt, "-o", tmp_path, *options)
        assert code == 0, output
    files = list(tmp_path.iterdir())
    settings = [read_drawing(path) for path in files]
    assert len(files) == len(cases)
    assert {(each.prompt, each.guidance, each.seed, each.temperature, each.size) for each in settings} == {
        (prompt, *choices[options]) for prompt, options in cases
    }
    assert {each.model for each in settings} == {(model / "COMMITTED").read_text().strip()}
