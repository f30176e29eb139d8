"""Recorded files of evaluation pass wherever they lie, and any changed value that they expect is seen."""

import copy
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parity.__main__ import main
from tests.parity.scores.evaluation import find_files, passed_over, replay_file

pytestmark = pytest.mark.reference

INPUTS = frozenset({"detections", "colors", "metadata", "config", "answers", "official_line", "image_size", "id"})
STEERING = frozenset({"resolution", "pic_num", "images", "csv", "notes", "name", "note"})
"""What is read, not compared: changing it need not change any expected value."""


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Places and values of everything that a file expects."""
    if isinstance(node, dict):
        items = [(key, value) for key, value in node.items() if key not in INPUTS]
        items = [(key, value) for key, value in items if key not in STEERING or isinstance(value, list)]
    else:
        items = list(enumerate(node)) if isinstance(node, list) else []
    for key, value in items:
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))
        elif key not in STEERING and "images" not in path[-1:]:
            yield (*path, key), value


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "1"
    return value + 1 if isinstance(value, int) else value * (1 + 1e-6) + 1e-9


def with_value(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    copied = copy.deepcopy(data)
    node = copied
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return copied


@pytest.mark.parametrize("name", ["geneval_scoring.json", "dpg/dpg_scoring.json"])
def test_recorded_scores_pass(shared: Path, name: str) -> None:
    result = replay_file(shared / "goldens/eval" / name)
    assert result["passed"], result["failures"]
    assert result["information"]["pictures"] == {"geneval_scoring.json": 502}.get(name, 166)


@pytest.mark.parametrize("name", ["geneval_scoring.json", "dpg/dpg_scoring.json"])
def test_any_changed_value_is_seen(shared: Path, name: str, tmp_path: Path, exhaustive: bool) -> None:
    source = shared / "goldens/eval" / name
    shutil.copytree(source.parent, tmp_path / "case", ignore=None if "dpg" in name else lambda *_: ["fid"])
    path = tmp_path / "case" / source.name
    path.parent.chmod(0o755)
    data = json.loads(source.read_text())
    places = list(leaves(data))
    assert len(places) > 500
    if not exhaustive:
        places = random.Random(0).sample(places, 25)
    for place, value in places:
        path.unlink()
        path.write_text(json.dumps(with_value(data, place, changed(value))))
        assert not replay_file(path)["passed"], (place, value)


def test_a_file_of_another_name_in_another_place_is_found(shared: Path, tmp_path: Path) -> None:
    shutil.copy(shared / "goldens/eval/geneval_scoring.json", tmp_path / "renamed.json")
    (tmp_path / "other.json").write_text("[1, 2]")
    assert find_files(tmp_path) == [tmp_path / "renamed.json"]


def test_a_damaged_file_among_good_ones_fails_and_others_are_named(shared: Path, tmp_path: Path) -> None:
    text = (shared / "goldens/eval/geneval_scoring.json").read_text(encoding="utf-8")
    (tmp_path / "good.json").write_text(text, encoding="utf-8")
    (tmp_path / "cut.json").write_text(text[: len(text) // 2], encoding="utf-8")
    (tmp_path / "cut.npz").write_bytes(b"PK")
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    assert find_files(tmp_path) == [tmp_path / name for name in ("cut.json", "cut.npz", "good.json")]
    assert passed_over(tmp_path) == [tmp_path / "other.json"]
    assert "does not fit together: JSONDecodeError" in replay_file(tmp_path / "cut.json")["failures"][0]
    assert not replay_file(tmp_path / "cut.npz")["passed"]


def test_command_passes_on_good_files_and_fails_on_others(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "unknown.json").write_text('{"groups": []}')
    for path, code in ((shared / "goldens/eval/dpg", 0), (tmp_path / "unknown.json", 1)):
        assert main([str(path)]) == code
        assert json.loads(capsys.readouterr().out)["passed"] is (code == 0)


def numbers(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all figures that are expected; what they were made with is left alone."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        if key in ("args", "versions", "settings"):
            continue
        if isinstance(value, dict | list):
            yield from numbers(value, (*path, key))
        elif isinstance(value, int | float):
            yield (*path, key)


@pytest.mark.parametrize(
    "name", ["fid/metric_expected.json", "psnr_ssim/expected.json", "clip_score/clip_expected.json"]
)
def test_figures_pass_and_every_changed_one_is_seen(shared: Path, name: str, tmp_path: Path) -> None:
    """All figures are changed at once, and as many failures are told."""
    source = shared / "goldens/eval" / name
    assert replay_file(source)["passed"]
    for beside in source.parent.glob("*.npz"):
        if beside.name in ("metric_inputs.npz", "clip_embeddings.npz"):
            shutil.copy(beside, tmp_path)
    if (source.parent / "images").is_dir() and "psnr" in name:
        (tmp_path / "images").symlink_to(source.parent / "images")
    data = json.loads(source.read_text())
    places = list(numbers(data))
    for place in places:
        node = data
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = node[place[-1]] * 1.01 + 1e-3
    (tmp_path / "elsewhere.json").write_text(json.dumps(data))
    failures = replay_file(tmp_path / "elsewhere.json")["failures"]
    assert len(places) > 20
    assert len(failures) == len(places), failures


def test_a_changed_feature_is_seen(shared: Path, tmp_path: Path) -> None:
    source = shared / "goldens/eval/fid"
    with np.load(source / "inception_features.npz") as content:
        arrays = {name: content[name][3:4] for name in ("names", "tf1_64", "tf1_2048", "pt_probe", "clean_probe")}
        arrays |= {name: content[name] for name in ("probe_rows", "probe_cols")}
    (tmp_path / "images").symlink_to(source / "images")
    for change, passes in ((0.0, True), (1e-3, False)):
        arrays["tf1_64"] = arrays["tf1_64"] * (1 + change)
        np.savez(tmp_path / "other.npz", **arrays)
        assert find_files(tmp_path) == [tmp_path / "other.npz"]
        assert replay_file(tmp_path / "other.npz")["passed"] is passes
