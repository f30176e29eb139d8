"""Rows that could not be used are counted, kept with bytes and reason, and become a child version once repaired."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinity import storage
from infinity.cli import app
from infinity.data.curation.filters import FilterConfig
from infinity.data.dataset.manifest import Manifest
from infinity.data.sources import quarantine
from infinity.data.sources.samples import SourceError
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from infinity.jobs.dataset.replay import quarantined, reasons_of, replay_spec
from tests.fixtures.data.pictures_on_disk import encoded, good_folder, noise


def broken_folder(folder: Path) -> Path:
    """Six good pictures, one cut off, one missing, and a line that is no JSON."""
    good_folder(folder, 6)
    data = encoded(noise(seed=50), "JPEG")
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    with (folder / "metadata.jsonl").open("a") as file:
        file.write('{"file_name": "cut.jpg", "text": "the cut one"}\n')
        file.write('{"file_name": "missing.png", "text": "the missing one"}\n')
        file.write('{"file_name": "x.png", "text": broken\n')
    return folder


def built(tmp_path: Path) -> Manifest:
    filters = FilterConfig()
    with in_process():
        report = run(
            BuildDatasetSpec(source=str(broken_folder(tmp_path / "in")), output=str(tmp_path), filters=filters)
        )
    counts = report.summary.counts
    assert counts["read"] == 9 == sum(number for name, number in counts.items() if name != "read")
    assert counts["unreadable"] == 3
    return Manifest.load(report.manifest)


def test_quarantine_keeps_bytes_and_reasons(tmp_path: Path) -> None:
    manifest = built(tmp_path)
    assert reasons_of(manifest) == {"truncated": 1, "missing_file": 1, "bad_row": 1}
    (file,) = quarantined(manifest)
    rows = {row["reason"]: row for row in quarantine.load(file).to_pylist()}
    assert rows["truncated"]["data"] == (tmp_path / "in" / "cut.jpg").read_bytes()
    assert rows["truncated"]["caption"] == "the cut one"
    assert rows["bad_row"]["data"] == b'{"file_name": "x.png", "text": broken'
    assert rows["missing_file"]["image"] == str(tmp_path / "in" / "missing.png")


def test_repaired_rows_make_a_child_version(tmp_path: Path) -> None:
    manifest = built(tmp_path)
    folder = tmp_path / "repaired"
    shown = CliRunner().invoke(app, ["data", "quarantine", manifest.uri, "--export", str(folder)])
    assert shown.exit_code == 0, shown.output
    assert "truncated" in shown.output
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert {line["reason"] for line in lines} == {"truncated", "missing_file", "bad_row"}
    for number, line in enumerate(lines):
        line["file_name"] = line["file_name"] or "new.bin"
        line["text"] = line["text"] or "the broken one"
        (folder / line["file_name"]).write_bytes(encoded(noise(seed=60 + number)))
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with in_process():
        done = CliRunner().invoke(app, ["data", "replay", manifest.uri, str(folder)])
    assert done.exit_code == 0, done.output
    child = Manifest.load(done.output.split()[-1])
    assert child.head.parent == manifest.digest
    assert (child.head.counts["read"], child.head.counts["kept"], child.head.counts["unreadable"]) == (12, 9, 3)
    assert {"the cut one", "the missing one", "the broken one"} <= set(child.captions(range(len(child))))
    assert set(manifest.captions(range(len(manifest)))) < set(child.captions(range(len(child))))


def test_rows_as_they_are_pass_when_their_files_came_back(tmp_path: Path) -> None:
    manifest = built(tmp_path)
    spec = replay_spec(manifest)
    source = spec.source
    assert source is not None
    (tmp_path / "in" / "missing.png").write_bytes(encoded(noise(seed=70)))
    found = [storage.name(uri) for uri in quarantine.files_of(source)]
    assert found == ["000000.parquet"]
    from infinity.data.curation.facts import measure_slice
    from infinity.data.sources.opening import open_source

    opened = open_source(source, roots=spec.roots)
    assert opened.kind == "quarantine"
    (facts,) = (measure_slice(piece, 10**6).facts for piece in opened.slices)
    assert facts["problem"].to_pylist() == ["truncated", None, "bad_row"]
    (facts,) = (measure_slice(piece, 10**6).facts for piece in open_source(source).slices)
    assert facts["problem"].to_pylist() == ["truncated", "outside_source", "bad_row"]


def test_data_set_without_quarantine_is_a_clear_error(tmp_path: Path) -> None:
    with in_process():
        report = run(BuildDatasetSpec(source=str(good_folder(tmp_path / "in", 4)), output=str(tmp_path)))
    with pytest.raises(SourceError, match="found nothing in quarantine"):
        replay_spec(Manifest.load(report.manifest))
