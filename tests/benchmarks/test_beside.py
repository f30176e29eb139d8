"""The comparison with the published code: recorded lines give ratios; wrong input ends in a sentence."""

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.beside import ITEMS, LETTERS, Setting, compare, main, run, table
from benchmarks.run.__main__ import all_items

OURS = "transformer_forward_backward"


def ours(name: str, seconds: float) -> dict[str, Any]:
    return {"item": name, "median_s": 2 * seconds, "median_cpu_s": seconds, "maxrss_mb": 600.0}


def published(name: str, seconds: float) -> dict[str, Any]:
    item, field, value = ITEMS[name]
    return {"item": item, field: value, "median_s": 3 * seconds, "median_cpu_s": seconds, "maxrss_mb": 1000.0}


def test_every_item_of_the_benchmark_has_its_published_one() -> None:
    assert {item.name for item in all_items()} == set(ITEMS)
    assert {item.group for item in all_items()} == set(LETTERS)


def test_ratios_are_taken_within_a_round_and_a_slow_round_changes_nothing() -> None:
    rounds = [
        {"published": [published(OURS, 4.0 * slow)], "ours": [ours(OURS, 3.0 * slow)]} for slow in (1.0, 10.0, 2.0)
    ]
    step, memory = compare(rounds)
    assert (step["ours/published_median_cpu_s"], step["ours/published_median_cpu_s_spread"]) == (0.75, 0.0)
    assert step["ours/published_median_s"] == pytest.approx(0.5)
    assert step["published_median_cpu_s"] == 8.0
    assert memory["ours/published_mb"] == pytest.approx(0.6)
    assert "| transformer_forward_backward | 8 | 0.75 (0.00) |" in table([step, memory], bfloat16=False)


def test_bfloat16_is_compared_with_both_published_ones() -> None:
    lines = {
        "published": [published(OURS, 4.0)], "ours": [ours(OURS, 3.0)],
        "published_bfloat16": [published(OURS, 2.0)], "ours_bfloat16": [ours(OURS, 1.0)],
    }  # fmt: skip
    step = compare([lines])[0]
    assert (step["ours_bfloat16/published_median_cpu_s"], step["ours_bfloat16/published_bfloat16_median_cpu_s"]) == (
        0.25,
        0.5,
    )
    assert "| 0.75 (0.00) | 0.25 (0.00) | 0.50 (0.00) |" in table([step], bfloat16=True)


@pytest.mark.parametrize("name", ["generation_10_scales", "quantizer_64x64", "self_correction_16x16"])
def test_items_of_two_sizes_are_told_apart(name: str) -> None:
    lines = [published(each, 1.0 + number) for number, each in enumerate(ITEMS)]
    [row] = compare([{"published": lines, "ours": [ours(name, 1.0)]}])
    assert row["item"] == name
    assert row["published_median_cpu_s"] == 1.0 + list(ITEMS).index(name)


def test_both_run_as_many_threads_and_repeats(tmp_path: Path) -> None:
    setting = Setting(published=tmp_path, tool=tmp_path / "tool.py", groups="ac", threads=3, repeats=7, bfloat16=True)
    for kind, command in setting.commands().items():
        assert command[command.index("--threads") :][:4] == ["--threads", "3", "--repeats", "7"], kind
        assert ("train,bsq" if kind.startswith("published") else "a,c") in command


def test_a_process_that_fails_is_named_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="ended with 3: no such layer"):
        run([sys.executable, "-c", "import sys; print('no such layer', file=sys.stderr); sys.exit(3)"], tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"--published": "nowhere"}, "expected a checkout of FoundationVision/Infinity"),
        ({"--tool": "nowhere"}, "expected a script"),
        ({"--rounds": "0"}, "expected positive numbers"),
        ({"--groups": "az"}, "letters of abcde"),
    ],
)
def test_wrong_input_ends_in_a_sentence(
    tmp_path: Path, changes: dict[str, str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "infinity" / "models").mkdir(parents=True)
    options = {"--published": str(tmp_path), "--tool": __file__, "--rounds": "1"} | changes
    with pytest.raises(SystemExit):
        main([part for option in options.items() for part in option])
    assert sentence in capsys.readouterr().err
