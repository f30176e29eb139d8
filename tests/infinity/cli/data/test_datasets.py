"""Commands on data sets: what they print, what they write, and how they end."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infinity.cli import app
from infinity.data.curation.filters import FilterConfig
from infinity.data.dataset.manifest import Manifest
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from tests.fixtures.data.pictures_on_disk import good_folder


def call(*arguments: str) -> Result:
    with in_process():
        return CliRunner().invoke(app, ["data", *arguments], env={"COLUMNS": "300"})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("data")
    source = good_folder(folder / "in", 24, sizes=[(16, 16), (24, 16), (8, 8)])
    (source / "images" / "003.png").write_bytes(b"no picture")
    spec = BuildDatasetSpec(source=str(source), output=str(folder / "out"), filters=FilterConfig(min_side_px=9))
    with in_process():
        return Manifest.load(run(spec.replace(samples_per_shard=4)).manifest)


def test_show_tells_funnel_ratios_rules_and_settings(manifest: Manifest) -> None:
    found = call("show", manifest.uri)
    assert found.exit_code == 0
    for text in (manifest.digest, "dropped_small_side", "at least 9", "1.5", "min_side_px", "validation"):
        assert text in found.output


def test_takedown_then_diff_tells_what_changed(manifest: Manifest, tmp_path: Path) -> None:
    listed = tmp_path / "gone.txt"
    listed.write_text(f"sha256:{manifest.table['sha256'][2].as_py()}\n")
    made = call("takedown", manifest.uri, str(listed), "--name", "toy")
    assert made.exit_code == 0, made.output
    child = made.output.split()[-1]
    found = call("diff", manifest.uri, child, "--json")
    difference = json.loads(found.output)
    assert (difference["removed"], difference["added"], difference["shards_new"]) == (1, 0, 1)
    assert "made from the first" in call("diff", manifest.uri, child).output


def test_gallery_is_one_page_with_pictures_and_reasons(manifest: Manifest, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert call("gallery", manifest.uri, "-o", str(page)).exit_code == 0
    html = page.read_text()
    assert html.count("<img") == len(manifest) + 8  # of 8 small pictures the facts keep a thumbnail
    for text in ("Height / width 1.500", "Dropped: small_side, 8 rows", "Dropped: unreadable_not_a_picture"):
        assert text in html


def test_verify_ends_with_code_1_and_names_what_is_broken(manifest: Manifest) -> None:
    whole = call("verify", manifest.uri)
    assert (whole.exit_code, whole.output) == (
        0,
        f"whole: {len(manifest)} pictures in {len(manifest.head.shards)} shards\n",
    )
    path = Path(manifest.root) / manifest.head.shards[0].path
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    broken = call("verify", manifest.uri)
    path.write_bytes(content)
    assert broken.exit_code == 1
    assert f"wrong_checksum: {path}" in broken.output
    assert call("verify", str(path)).exit_code == 1
