"""``infinity pull`` against a local stand-in of a hub: whole, interrupted, resumed, wrong, full, offline."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from infinity.checkpoint import load_checkpoint
from infinity.cli import app
from infinity.convert import hub_files
from infinity.convert.catalogue import CATALOGUE
from tests.fixtures.models.published_files import published_tensors, write_t5
from tests.fixtures.servers.hub import Hub, running_hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("hub")
    folder = root / "FoundationVision" / "Infinity"
    folder.mkdir(parents=True)
    transformer, tokenizer = published_tensors()
    torch.save(transformer, folder / "infinity_125M_256x256.pth")
    torch.save({"vae": tokenizer}, folder / "infinity_vae_d16.pth")
    torch.save({"vae": tokenizer}, folder / "infinity_vae_d32.pth")
    write_t5(root / "t5")
    with running_hub(root) as hub:
        yield hub


@pytest.fixture(autouse=True)
def clean(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.cut_after, hub.wrong, hub.status, hub.ranges = None, False, None, []
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub_files.time, "sleep", lambda _: None)


def pull(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["pull", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


def size(hub: Hub, name: str) -> int:
    return (hub.root / "FoundationVision" / "Infinity" / name).stat().st_size


def test_one_command_gives_a_model_folder_and_says_the_licence(hub: Hub, tmp_path: Path) -> None:
    code, output = pull("125M", "--text-model", hub.root / "t5")
    assert code == 0, output
    assert "licence: mit" in output
    assert load_checkpoint(str(tmp_path / "models" / "125m")).config["resolution"]["size"] == "256"
    assert pull("125m", "--text-model", hub.root / "t5")[0] == 0
    assert not hub.ranges


def test_an_interrupted_download_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = 50_000
    code, output = pull("vae-d16")
    whole = size(hub, "infinity_vae_d16.pth")
    assert whole > 5 * 50_000
    assert code == 1
    assert f"interrupted after 250,000 of {whole:,} bytes" in output
    assert "run the command again" in output
    hub.cut_after = None
    assert pull("vae-d16")[0] == 0
    assert hub.ranges[-1] == "bytes=250000-"
    downloaded = tmp_path / "models" / "downloads" / "infinity_vae_d16.pth"
    assert downloaded.read_bytes() == (hub.root / "FoundationVision/Infinity/infinity_vae_d16.pth").read_bytes()


def test_short_interruptions_are_resumed_by_themselves(hub: Hub) -> None:
    hub.cut_after = size(hub, "infinity_vae_d16.pth") // 3 + 1
    assert pull("vae-d16")[0] == 0
    assert len(hub.ranges) == 2


def test_a_wrong_checksum_is_named_and_nothing_is_kept(hub: Hub, tmp_path: Path) -> None:
    hub.wrong = True
    code, output = pull("vae-d16")
    assert code == 1
    assert "expected sha256" in output
    assert not list((tmp_path / "models" / "downloads").iterdir())
    hub.wrong = False
    assert pull("vae-d16")[0] == 0


def test_a_full_disk_is_named_before_and_during_the_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(hub_files.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    code, output = pull("vae-d16")
    assert code == 1
    assert "GB free; make room" in output
    monkeypatch.undo()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub_files.HubRepository, "_stream", full)
    code, output = pull("vae-d16")
    assert code == 1
    assert "the disk is full; make room" in output


def test_offline_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, output = pull("2b")
    assert code == 1
    assert "cannot be reached" in output
    assert "are you offline?" in output


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "set HF_TOKEN"), (403, "set HF_TOKEN"), (429, "come back later"), (404, "(404)"), (503, "answers 503")],
)
def test_refusals_are_one_sentence(hub: Hub, status: int, message: str) -> None:
    hub.status = status
    code, output = pull("2b")
    assert code == 1
    assert message in output


def test_what_the_repository_lacks_and_unknown_names_are_said(hub: Hub) -> None:
    assert "has no infinity_vae_d32reg.pth" in pull("2b")[1]
    assert "expected one of 125m, 2b, 8b, 8b-512" in pull("13b")[1]


def test_size_folding_and_pairs_follow_from_the_names() -> None:
    assert {name: model.size for name, model in CATALOGUE.items() if model.transformer} == {
        "125m": "256", "2b": "1024", "8b": "1024", "8b-512": "512",
    }  # fmt: skip
    assert [name for name, model in CATALOGUE.items() if model.fold] == ["8b", "8b-512"]


def test_a_model_goes_to_a_hub_and_comes_back(hub: Hub, tmp_path: Path) -> None:
    """In a process of its own: the library reads its settings when it is imported."""
    import os
    import subprocess
    import sys

    from infinity.generation.infinity_pipeline import InfinityPipeline
    from tests.fixtures.data.small_world import write_model

    model = write_model(tmp_path)
    code = (
        "import sys, numpy as np; from infinity import InfinityPipeline\n"
        "pipe = InfinityPipeline.from_pretrained(sys.argv[1], device='cpu')\n"
        "print(pipe.push_to_hub('me/small'))\n"
        "again = InfinityPipeline.from_pretrained('me/small', device='cpu')\n"
        "assert np.array_equal(again('a dog').pixels(), pipe('a dog').pixels())\n"
        "try: InfinityPipeline.from_pretrained('me/absent')\n"
        "except ValueError as error: print(error)\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_x", "HF_HUB_DISABLE_XET": "1",
                   "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[4])}  # fmt: skip
    environment["HF_HUB_OFFLINE"] = "0"
    done = subprocess.run(
        [sys.executable, "-c", code, model], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{hub.url}/me/small" in done.stdout
    assert "me/absent: not a folder here, and the hub did not give it" in done.stdout
    assert InfinityPipeline.from_pretrained(model).model == model


def test_a_file_that_was_replaced_by_another_of_its_size_is_downloaded_anew(hub: Hub, tmp_path: Path) -> None:
    assert pull("vae-d16")[0] == 0
    file, copy = hub.root / "FoundationVision/Infinity/infinity_vae_d16.pth", tmp_path / "models/downloads"
    whole = file.read_bytes()
    before = (tmp_path / "models/vae-d16/COMMITTED").read_text()
    tensors = torch.load(file, weights_only=True)
    name = next(key for key, value in tensors["vae"].items() if value.is_floating_point() and value.numel() > 10)
    tensors["vae"][name] += 1
    try:
        torch.save(tensors, file)
        assert file.stat().st_size == len(whole)
        assert pull("vae-d16")[0] == 0
        assert (copy / file.name).read_bytes() == file.read_bytes() != whole
        assert (tmp_path / "models/vae-d16/COMMITTED").read_text() != before
    finally:
        file.write_bytes(whole)
