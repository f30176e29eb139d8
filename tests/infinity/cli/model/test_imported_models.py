"""Imported weights are trained further and drawn from by the commands of the README."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from infinity.checkpoint import load_checkpoint
from infinity.cli import app
from infinity.generation import read_drawing
from infinity.jobs.cluster.connection import in_process
from tests.fixtures.models.published_files import published_tensors, write_pictures, write_published, write_t5


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return result.exit_code, result.output


def done(*arguments: object) -> str:
    code, output = run(*arguments)
    assert code == 0, output
    return output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5, and published files imported into ``tokenizer`` and ``model``."""
    folder = tmp_path_factory.mktemp("imported")
    write_published(folder)
    write_t5(folder / "t5")
    done("published", "import-tokenizer", folder / "vae.pth", folder / "tokenizer")
    import_model(folder, "model")
    return folder


def import_model(folder: Path, name: str, *options: object, source: str = "model.pth", size: str | None = "256") -> str:
    sizes = () if size is None else ("--size", size)
    text = () if "--text-model" in options else ("--text-model", folder / "t5")
    return done(
        "published", "import-transformer", folder / source, folder / "tokenizer", folder / name, *sizes, *text, *options
    )


def config_of(model: Path) -> dict[str, Any]:
    found: dict[str, Any] = load_checkpoint(str(model)).config
    return found


def save_training(folder: Path, name: str, key: str = "gpt_fsdp", **more: Any) -> None:
    transformer, tokenizer = published_tensors()
    trainer = {"config": {}, key: transformer, "vae_local": more.pop("vae_local", tokenizer)}
    torch.save({"epoch": 1, "trainer": trainer, **more}, folder / name)


@pytest.mark.parametrize(("pn", "size"), [("0.06M", "256"), ("0.25M", "512"), ("0.60M", "768"), ("1M", "1024")])
def test_without_a_size_the_training_checkpoints_own_is_taken(folder: Path, pn: str, size: str) -> None:
    save_training(folder, "ar-ckpt.pth", args={"pn": pn, "rope2d_normalized_by_hw": 0})
    import_model(folder, f"of-{size}", source="ar-ckpt.pth", size=None)
    assert config_of(folder / f"of-{size}")["resolution"]["size"] == size


def test_positions_scale_embedding_and_epsilon_are_those_of_the_training(folder: Path) -> None:
    args = {"rope2d_normalized_by_hw": 1, "add_lvl_embeding_only_first_block": 0, "norm_eps": 1e-5}
    save_training(folder, "other.pth", "gpt_wo_ddp", args=args)
    import_model(folder, "other", source="other.pth")
    found = config_of(folder / "other")["transformer"]
    assert (found["positions"], found["scale_embedding_period"], found["norm_eps"]) == ("interpolated", 1, 1e-5)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ({"pn": "0.06M"}, ("--size", "1024"), "trained with 256, but 1024 is asked for"),
        ({"pn": "9M"}, (), "expected pn to be one of 0.06M"),
        ({"rope2d_normalized_by_hw": 3}, (), "rope2d_normalized_by_hw"),
        ({"use_bit_label": 0}, (), "use_bit_label 1"),
        ({"rope2d_each_sa_layer": 0}, (), "rope2d_each_sa_layer 1"),
        ({"apply_spatial_patchify": 1}, (), "with --fold"),
        ({"norm_eps": float("nan")}, (), "norm_eps"),
        ([1], (), "expected the arguments of a training"),
    ],
)
def test_arguments_that_contradict_are_one_clear_line(
    folder: Path, tmp_path: Path, args: Any, options: tuple[str, ...], message: str
) -> None:
    save_training(tmp_path, "ckpt.pth", args=args)
    code, output = run(
        "published", "import-transformer", tmp_path / "ckpt.pth", folder / "tokenizer", tmp_path / "out",
        "--text-model", folder / "t5", *options,
    )  # fmt: skip
    assert code == 1, output
    assert message in " ".join(output.split())
    assert not (tmp_path / "out" / "COMMITTED").exists()


def test_a_training_checkpoint_that_carries_another_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    save_training(tmp_path, "ckpt.pth", vae_local=published_tensors(seed=5)[1])
    arguments = (tmp_path / "ckpt.pth", folder / "tokenizer", tmp_path / "out", "--text-model", folder / "t5")
    code, output = run("published", "import-transformer", *arguments)
    assert code == 1
    assert "carries is not the one" in " ".join(output.split())
    half = {
        name: value.bfloat16() if value.is_floating_point() else value for name, value in published_tensors()[1].items()
    }
    save_training(tmp_path, "ckpt.pth", vae_local=half)
    done("published", "import-transformer", *arguments)


def test_a_known_wrong_pair_of_released_files_is_refused_by_their_names(folder: Path, tmp_path: Path) -> None:
    for wrong, right in (("infinity_2b_reg.pth", "infinity_vae_d32reg.pth"),):
        torch.save(published_tensors()[0], tmp_path / wrong)
        for name, expected in ((right, 0), ("infinity_vae_d32.pth", 1), ("my_own.pth", 0)):
            torch.save({"vae": published_tensors()[1]}, tmp_path / name)
            done("published", "import-tokenizer", tmp_path / name, tmp_path / "tokenizer")
            code, output = run(
                "published", "import-transformer", tmp_path / wrong, tmp_path / "tokenizer", tmp_path / "out",
                "--text-model", folder / "t5",
            )  # fmt: skip
            assert code == expected, output
            assert (right.removesuffix(".pth").replace("_", "") in output) == bool(expected)


@pytest.mark.parametrize("text", ["no/such/folder", "./t5", "nothing", "~/t5", "s3://bucket/t5"])
def test_a_text_folder_that_is_not_there_is_refused_on_import(folder: Path, tmp_path: Path, text: str) -> None:
    code, output = run(
        "published",
        "import-transformer",
        folder / "model.pth",
        folder / "tokenizer",
        tmp_path / "out",
        "--text-model",
        text,
    )
    assert code == 1
    assert "expected a folder with a T5" in " ".join(output.split())


def test_a_text_folder_of_another_kind_or_other_channels_is_refused_on_import(folder: Path, tmp_path: Path) -> None:
    write_t5(tmp_path / "wide", channels=64)
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "empty").mkdir()
    for name, message in (("wide", "this T5 gives 64"), ("bert", "of type 'bert'"), ("empty", "config.json")):
        code, output = run(
            "published", "import-transformer", folder / "model.pth", folder / "tokenizer", tmp_path / "out",
            "--text-model", tmp_path / name,
        )  # fmt: skip
        assert code == 1
        assert message in " ".join(output.split())


def test_a_local_text_folder_is_stored_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    import_model(folder, "relative", "--text-model", "t5")
    assert config_of(folder / "relative")["text"]["model"] == str(folder / "t5")


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Path:
    write_pictures(folder / "pictures")
    with in_process():
        done("data", "build", folder / "pictures", "--output", folder / "sets")
    return next((folder / "sets").glob("dataset-*/manifest.parquet"))


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--rank", "2")], ids=["all weights", "LoRA"])
def test_imported_weights_are_finetuned_and_drawn_from(folder: Path, manifest: Path, options: tuple[str, ...]) -> None:
    specs, output = folder / f"specs{len(options)}", folder / f"out{len(options)}"
    done(
        "transformer-specs", manifest, "--start-from", folder / "model", "--specs", specs, "--output", output,
        "--num-workers", 1, "--part-size", 2, "--num-steps", 2, "--batch-size", 2, "--cpu", *options,
    )  # fmt: skip
    spec = json.loads((specs / "finetune.json").read_text())["spec"]
    assert spec["resolution"]["size"] == "256"
    assert (spec["adapters"] is not None) == bool(options)
    with in_process():
        code, text = run("run", specs / "finetune.json")
    assert code == 0, text
    model = next(output.glob("transformer-*/model"))
    before, after = (load_checkpoint(str(place)).tensors for place in (folder / "model", model))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    done("generate", "-c", model, "-p", "a red cube", "-o", output / "drawings")
    drawing = read_drawing(next((output / "drawings").iterdir()))
    assert (drawing.prompt, drawing.size) == ("a red cube", (256, 256))


def test_the_specs_of_a_start_take_its_shape_and_text_encoder_wherever_its_folder_lies_now(
    folder: Path, tmp_path: Path
) -> None:
    write_t5(tmp_path / "moved", dtype=torch.bfloat16)
    arguments = ("transformer-specs", "m.parquet", "--start-from", folder / "model", "--specs", tmp_path / "specs")
    done(*arguments, "--text-model", tmp_path / "moved", "--num-workers", 2)
    first = json.loads((tmp_path / "specs" / "pretrain-256.json").read_text())["spec"]
    assert first["start_from"] == str(folder / "model")
    assert first["model"]["width"] == 64
    assert first["tokenizer"] == str(folder / "model" / "tokenizer")
    assert (first["text"]["model"], first["text"]["dtype"]) == (str(tmp_path / "moved"), "bfloat16")
    write_t5(tmp_path / "other", seed=9)
    code, output = run(*arguments, "--text-model", tmp_path / "other")
    assert code == 1
    assert "expected the text encoder that the model was trained with" in " ".join(output.split())
    code, output = run(*arguments, "--model", "125M")
    assert code == 1
    assert "is no 125M" in " ".join(output.split())
