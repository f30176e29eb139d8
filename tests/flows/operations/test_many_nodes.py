"""The pipeline on several nodes ends in the same data, weights and figures, also where nodes are lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.operations.many_nodes import why_no_namespaces
from tests.fixtures.operations.measure_many_nodes import fingerprints, measure, reached

STAGES = ("dataset", "tokenizer", "pretrain", "finetune", "evaluation")


def write_run(folder: Path, *, weight: bytes = b"w", picture: bytes = b"p", **changes: Any) -> str:
    """Write what the fingerprints are taken of, and what is left out."""
    for name, data in (
        ("dataset-1/shards/0.tar", picture), ("dataset-1/manifest.parquet", b"m"),
        ("tokenizer-1/model/weights", weight), ("tokenizer-1/spec.json", b"{}"),
        ("tokenizer-1/metrics.jsonl", str(changes.get("seconds", 1)).encode()),
    ):  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    stages = {"tokenizer": {"folder": "tokenizer-1", "command": str(folder)}}
    figures = {"scores": [{"metric": "psnr", "value": 30.0}], "dataset": {"kept": 3}, "stages": stages, "seconds": 1}
    (folder / "report.json").write_text(json.dumps(figures | changes))
    return str(folder)


def test_fingerprints_of_a_run_leave_out_what_is_time(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b", seconds=2)
    assert fingerprints(first) == fingerprints(second)
    assert set(fingerprints(first)) == {
        "dataset-1/shards/0.tar", "dataset-1/manifest.parquet", "tokenizer-1/model/weights", "figures",
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{"weight": b"v"}, {"picture": b"q"}, {"scores": [{"metric": "psnr", "value": 30.1}]},
                {"dataset": {"kept": 2}}, {"stages": {"tokenizer": {"folder": "tokenizer-2"}}}],
)  # fmt: skip
def test_fingerprints_of_a_run_tell_every_other_difference(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert fingerprints(write_run(tmp_path / "a")) != fingerprints(write_run(tmp_path / "b", **changes))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", ("", 0)),
        ("Task run 'dataset' - dataset begins; its files go to x", ("dataset", 0)),
        ("Task run 'dataset' - dataset begins; x\nTask run 'dataset' -  38 %  checked 2 of 4 slices", ("dataset", 38)),
        ("Task run 'pretrain' - 100 %  trained\nTask run 'finetune' - finetune begins; x", ("finetune", 0)),
        ("Task run 'pretrain' -   7 %  step 3 of 40, 12 % of it", ("pretrain", 7)),
    ],
)
def test_the_log_of_a_flow_tells_its_stage_and_progress(said: str, expected: tuple[str, int]) -> None:
    assert reached(said) == expected


@pytest.mark.ray
@pytest.mark.prefect
@pytest.mark.slow
def test_two_and_three_nodes_end_as_one_also_where_a_node_is_lost_in_every_stage(
    tmp_path: Path, exhaustive: bool
) -> None:
    if not exhaustive:
        pytest.skip("half an hour; --exhaustive runs it")
    if (reason := why_no_namespaces()) is not None:
        pytest.skip(reason)
    expected = measure(tmp_path, 1, (), as_jobs=False)
    assert expected
    for number, lose in ((2, ()), (3, STAGES), (2, STAGES)):
        assert measure(tmp_path, number, lose, as_jobs=False) == expected
