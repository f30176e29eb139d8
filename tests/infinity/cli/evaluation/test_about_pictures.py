"""Specs for pictures that another model drew: one spec for all of them, one per model otherwise, never both."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from infinity.cli.evaluation.about_pictures import specs


def made(models: list[str], pictures: str | None, name: str = "", **spec: Any) -> list[dict[str, Any]]:
    return list(specs(spec, models, pictures, name))


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


def test_every_model_has_a_spec_of_its_own_with_an_absolute_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, s3_server: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = made(["a", f"{s3_server}/b"], None, geneval={})
    assert [spec["model"] for spec in found] == [str(tmp_path / "a"), f"{s3_server}/b"]
    assert all(spec["geneval"] == {} for spec in found)


def test_pictures_go_to_the_benchmarks_that_can_score_them_and_to_no_other(tmp_path: Path) -> None:
    picture(tmp_path / "flux/00000.png")
    (spec,) = made([], str(tmp_path / "flux"), geneval={}, clip_score={}, scenes={}, dpg=None)
    assert spec["geneval"]["pictures"] == spec["clip_score"]["pictures"] == {"uri": str(tmp_path / "flux")}
    assert spec["scenes"] == {}
    assert spec["dpg"] is None
    assert (spec["model"], spec["pictures_of"]) == ("", "flux")


def test_a_folder_named_like_the_benchmark_comes_first(tmp_path: Path) -> None:
    picture(tmp_path / "flux/geneval/00000/samples/0.png")
    (spec,) = made([], str(tmp_path / "flux"), geneval={}, clip_score={})
    assert spec["geneval"]["pictures"]["uri"] == str(tmp_path / "flux/geneval")
    assert spec["clip_score"]["pictures"]["uri"] == str(tmp_path / "flux")


def test_a_table_gives_the_prompts_too_unless_prompts_are_named(tmp_path: Path) -> None:
    table = str(tmp_path / "t.csv")
    (spec,) = made([], table, clip_score={}, hps={"prompts": ["mine"]}, geneval={})
    assert spec["clip_score"]["prompts"] == [{"file": {"uri": table}}]
    assert spec["hps"]["prompts"] == ["mine"]
    assert "prompts" not in spec["geneval"]


def test_pictures_of_one_benchmark_may_be_given_in_its_settings_and_name_the_model(tmp_path: Path) -> None:
    own = {"uri": str(tmp_path / "sd3/")}
    (spec,) = made([], None, geneval={"pictures": own})
    assert spec["geneval"]["pictures"] == own
    assert spec["pictures_of"] == "sd3"
    assert made([], None, "SD 3", geneval={"pictures": own})[0]["pictures_of"] == "SD 3"
    (both,) = made([], str(tmp_path / "flux"), geneval={"pictures": own}, clip_score={})
    assert both["geneval"]["pictures"] == own
    assert both["clip_score"]["pictures"]["uri"] == str(tmp_path / "flux")


@pytest.mark.parametrize(("models", "pictures", "words"), [(["m"], "p", "got both"), ([], None, "got neither")])
def test_either_models_or_pictures_are_named(models: list[str], pictures: str | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made(models, pictures, geneval={})


def test_without_a_name_the_folder_gives_it_wherever_the_command_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    picture(tmp_path / "flux/00000.png")
    monkeypatch.chdir(tmp_path / "flux")
    for place in (".", "./", str(tmp_path / "flux") + "/"):
        assert made([], place, geneval={})[0]["pictures_of"] == "flux"
    assert made([], ".", " FLUX | 1.1 [pro] ", geneval={})[0]["pictures_of"] == "FLUX | 1.1 [pro]"


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", "\u202eabc", "zero\u200bwidth", "\0", "x" * 201, "  "])
def test_a_name_that_would_change_what_is_around_it_is_refused(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "flux/00000.png")
    with pytest.raises(ValueError, match="--name: expected"):
        made([], str(tmp_path / "flux"), name, geneval={})


def test_a_file_that_is_no_table_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    picture(tmp_path / "flux.png")
    with pytest.raises(ValueError, match=r"expected a folder, a \.zip or a table"):
        made([], str(tmp_path / "flux.png"), clip_score={})


def test_an_archive_of_pictures_is_scored_like_a_folder_and_names_the_model(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "flux.zip", "w") as file:
        file.writestr("geneval/00000/samples/0.png", b"x")
    (spec,) = made([], str(tmp_path / "flux.zip"), geneval={}, clip_score={})
    assert spec["geneval"]["pictures"]["uri"] == f"zip://{tmp_path}/flux.zip!/geneval"
    assert spec["clip_score"]["pictures"]["uri"] == f"zip://{tmp_path}/flux.zip!"
    assert spec["pictures_of"] == "flux"
    (spec,) = made([], str(tmp_path / "flux.zip"), "mine", clip_score={})
    assert spec["pictures_of"] == "mine"
    (tmp_path / "flux.rar").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"expected a folder, a \.zip or a table"):
        made([], str(tmp_path / "flux.rar"), clip_score={})
