"""The file of records, its page and the command that reads them."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ledger import __main__ as command
from benchmarks.ledger import records
from benchmarks.measuring.timing import Item
from benchmarks.run import __main__ as bench


def record(seconds: float, **changes: Any) -> dict[str, Any]:
    return {
        "item": "decoder_256px", "group": "e", "median_cpu_s": seconds, "all_cpu_s": [0.99 * seconds, 1.01 * seconds],
        "at": "2026-01-01T00:00:00+00:00", "commit": "abc", "load": 0.5, "threads": 2, "cpu": "A", "torch": "2",
    } | changes  # fmt: skip


def ledger_of(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "new" / "records.jsonl"
    for line in lines:
        records.add(path, line)
    return path


def test_a_planted_slowdown_is_named_on_the_page_and_by_the_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ledger_of(tmp_path, *[record(seconds) for seconds in (3.4, 3.35, 3.42, 3.38, 4.6)])
    assert command.main([str(path)]) == 0
    assert command.main([str(path), "--check"]) == 1
    assert "decoder_256px: 1.36 times the processor seconds" in capsys.readouterr().out
    html = path.with_suffix(".html").read_text()
    assert "1 of 1 items slower" in html
    assert html.count('<tr class="slower">') == 1


def test_an_accepted_slowdown_is_not_flagged_and_its_reason_stands_on_the_page(tmp_path: Path) -> None:
    path = ledger_of(tmp_path, *[record(seconds) for seconds in (3.4, 3.35, 3.42, 3.38, 4.6)])
    assert command.main([str(path), "--accept", "decoder_256px", "--reason", "exact <norms>"]) == 0
    for _ in range(3):
        records.add(path, record(4.6))
    assert command.main([str(path), "--check"]) == 0
    assert "accepted: exact &lt;norms&gt;" in path.with_suffix(".html").read_text()


@pytest.mark.parametrize("changes", [{"cpu": "B"}, {"threads": 1}, {"num_scales": 7}])
def test_runs_of_another_machine_or_size_are_not_compared(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = ledger_of(tmp_path, *[record(3.4)] * 4, record(9.9, **changes))
    assert command.main([str(path), "--check"]) == 0
    assert len(records.read(path)) == 2


def test_a_new_torch_or_commit_is_compared(tmp_path: Path) -> None:
    path = ledger_of(tmp_path, *[record(3.4)] * 4, record(9.9, torch="3", commit="def"))
    assert command.main([str(path), "--check"]) == 1


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '"text"', json.dumps(record(1.0, all_cpu_s=[])), json.dumps(record(1.0, load="high"))]
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = ledger_of(tmp_path, record(3.4))
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(SystemExit):
        command.main([str(path)])
    assert f"{path}:2: expected a record" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--accept", "none", "--reason", "why"], "expected an item of the ledger"),
        (["--accept", "none"], "both or none"),
    ],
)
def test_what_cannot_be_accepted_is_refused(
    tmp_path: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ledger_of(tmp_path, record(3.4))
    with pytest.raises(SystemExit):
        command.main([str(path), *arguments])
    assert sentence in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main([str(tmp_path / "none")])


def test_a_benchmark_adds_to_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    item = Item(group="z", name="addition", about={"numbers": 100_000}, prepare=lambda: lambda: sum(range(100_000)))
    monkeypatch.setattr(bench, "all_items", lambda: [item])
    monkeypatch.setattr("torch.set_num_threads", lambda number: None)
    path = tmp_path / "records.jsonl"
    for _ in range(2):
        bench.main(["--ledger", str(path), "--repeats", "3"])
    [((name, where), entries)] = records.read(path).items()
    assert (name, len(entries)) == ("addition", 2)
    assert "numbers 100000" in where
    assert entries[0].low <= entries[0].seconds <= entries[0].high
    printed = capsys.readouterr()
    assert [json.loads(line)["item"] for line in printed.out.splitlines()] == ["addition", "addition"]
    assert f"page: {path.with_suffix('.html')}" in printed.err
