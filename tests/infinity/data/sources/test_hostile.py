"""What means harm is quarantined or refused, all of it, in little memory; nothing of it runs, writes or calls home."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infinity.data.memory import WORKER_BYTES
from tests.fixtures.data.pictures_on_disk import encoded, image_folder, noise
from tests.fixtures.faults.hostile_pictures import hostile_pictures
from tests.fixtures.faults.hostile_sources import hostile_csv_rows, hostile_lines, hostile_shards, hostile_tables
from tests.fixtures.limits import AGES_S
from tests.fixtures.operations import measure_hostile
from tests.fixtures.servers.picture_server import canary as listening


@dataclass(frozen=True)
class Outcome:
    """What one worker made of the whole corpus: sources by group and name, and what it left behind."""

    pictures: dict[str, bytes]
    lines: dict[str, bytes]
    csv_rows: dict[str, bytes]
    groups: dict[str, dict[str, Path]]
    found: dict[str, Any]
    peak_bytes: int
    new_files: set[Path]
    asked: list[str]

    def of(self, group: str, name: str = "") -> dict[str, Any]:
        return dict(self.found[str(self.groups[group][name])])


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Write the corpus, and let one process measure all of it as a worker does."""
    top = tmp_path_factory.mktemp("hostile")
    folder = top / "deep" / "deeper"
    folder.mkdir(parents=True)
    canary = str(folder / "canary")
    with listening() as (port, asked):
        pictures, lines, rows = hostile_pictures(canary), hostile_lines(canary, port), hostile_csv_rows(port)
        groups = {
            "pictures": {"": _pictures(folder / "pictures", pictures)},
            "lines": {"": _lines(folder / "lines", lines)},
            "csv": {"": _csv(folder / "csv", rows)},
            "mixed": {"": _mixed(folder / "mixed")},
            "shards": _shards(folder, hostile_shards(canary)),
            "tables": hostile_tables(folder, port),
        }
        before = set(top.rglob("*"))
        command = [sys.executable, measure_hostile.__file__]
        command += [str(path) for group in groups.values() for path in group.values()]
        environment = {**os.environ, "PYTHONPATH": os.getcwd()}
        done = subprocess.run(command, capture_output=True, timeout=AGES_S, env=environment, check=False)
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        result = json.loads(done.stdout)
        new_files = set(top.rglob("*")) - before
    return Outcome(pictures, lines, rows, groups, result["found"], result["peak_bytes"], new_files, list(asked))


def _pictures(folder: Path, pictures: dict[str, bytes]) -> Path:
    names = {f"{number:03d}": name for number, name in enumerate(pictures)}
    rows = [{"file_name": number, "text": name} for number, name in names.items()]
    return image_folder(folder, dict(zip(names, pictures.values(), strict=True)), rows)


def _lines(folder: Path, lines: dict[str, bytes]) -> Path:
    (folder / "folder.png").mkdir(parents=True)
    os.mkfifo(folder / "pipe.png")
    (folder / "good.png").write_bytes(encoded(noise()))
    (folder / "metadata.jsonl").write_bytes(b"\n".join(lines.values()) + b"\n")
    return folder


def _csv(folder: Path, rows: dict[str, bytes]) -> Path:
    folder.mkdir()
    (folder / "good.png").write_bytes(encoded(noise()))
    (folder / "metadata.csv").write_bytes(b"\n".join([b"file_name,text", *rows.values(), b"good.png,fine"]) + b"\n")
    return folder


def _mixed(folder: Path) -> Path:
    """A folder of Parquet files of which some cannot be read at all."""
    folder.mkdir()
    table = pa.table({"image": pa.array([None, b""], pa.binary()), "text": ["a", "b"]})
    pq.write_table(table, folder / "0.parquet")
    for number, data in enumerate((b"", b"PAR1" + bytes(100) + b"PAR1"), start=1):
        (folder / f"{number}.parquet").write_bytes(data)
    return folder


def _shards(folder: Path, shards: dict[str, bytes]) -> dict[str, Path]:
    paths = {name: folder / f"{number:03d}.tar" for number, name in enumerate(shards)}
    for name, path in paths.items():
        path.write_bytes(shards[name])
    return paths


def test_worker_stays_small_and_nothing_runs_writes_or_calls_home(outcome: Outcome) -> None:
    assert outcome.peak_bytes < WORKER_BYTES, f"{outcome.peak_bytes / 2**20:.0f} MB"
    print(f"peak memory {outcome.peak_bytes / 2**20:.0f} MB over {sum(map(len, outcome.groups.values()))} sources")
    assert not outcome.new_files
    assert not outcome.asked


def test_no_hostile_picture_becomes_a_sample(outcome: Outcome) -> None:
    assert len(outcome.pictures) >= 100
    found = outcome.of("pictures")
    good = [name for name, problem in zip(outcome.pictures, found["problems"], strict=True) if problem is None]
    assert not good, good
    assert found["quarantined"] == len(outcome.pictures)


def test_no_hostile_shard_gives_a_sample(outcome: Outcome) -> None:
    assert len(outcome.groups["shards"]) >= 35
    for name in outcome.groups["shards"]:
        found = outcome.of("shards", name)
        assert found["problems"], name
        assert None not in found["problems"], name
        assert found["quarantined"] == len(found["problems"]), name


def test_no_hostile_line_gives_a_sample(outcome: Outcome) -> None:
    found = outcome.of("lines")
    bad = dict(zip(outcome.lines, found["problems"], strict=True))
    assert None not in bad.values(), bad
    assert found["quarantined"] == len(outcome.lines)


def test_no_hostile_csv_row_gives_a_sample(outcome: Outcome) -> None:
    found = outcome.of("csv")
    bad = dict(zip(outcome.csv_rows, found["problems"], strict=False))
    assert None not in bad.values(), bad
    # "good.png" is no row's picture: it comes last, without a caption.
    assert found["problems"][len(outcome.csv_rows) :] == [None]
    assert found["quarantined"] == len(outcome.csv_rows)


def test_no_hostile_parquet_file_gives_a_sample(outcome: Outcome) -> None:
    for name in outcome.groups["tables"]:
        found = outcome.of("tables", name)
        assert "refused" in found or (found["problems"] and None not in found["problems"]), (name, found)
        assert "refused" in found or found["quarantined"] == len(found["problems"]), name
    assert outcome.of("tables", "bomb")["problems"] == ["too_much_memory"]


def test_one_broken_file_among_good_ones_is_one_quarantined_row(outcome: Outcome) -> None:
    found = outcome.of("mixed")
    assert found["problems"] == ["bad_row", "empty_file", "bad_file", "bad_file"]
    assert found["quarantined"] == 4
