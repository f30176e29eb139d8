"""A model's card as Markdown and HTML: everything its facts say, the same bytes always, and texts that stay texts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from infinity.evaluation.score import Score
from infinity.reporting.scores.card import DataFacts, EvaluationFacts, ModelCard, TrainingFacts, write_card
from infinity.reporting.summary import Sheet
from infinity.storage import FileMissingError
from tests.browser.screenshots import open_browser, why_no_browser
from tests.infinity.reporting.pages import HOSTILE, check_page, squeezed


def picture(path: Path, color: tuple[int, int, int]) -> str:
    Image.new("RGB", (24, 16), color).save(path)
    return str(path)


def card(folder: Path, **changes: Any) -> ModelCard:
    scores = (
        Score.share("geneval.overall", 30, 40, protocol="geneval/1"),
        Score.not_measured("fid", "", protocol="fid/2", reason="no weights"),
    )
    sheets = tuple(
        Sheet(
            image=picture(folder / "sheet.png" if name == "a" else folder / name / "sheet.png", color),
            title=f"sheet {name}",
        )
        for name, color in (("a", (255, 0, 0)), ("b", (0, 255, 0)))
        if (folder / name).mkdir(exist_ok=True) is None
    )
    values: dict[str, Any] = {
        "title": "demo, transformer", "model": "/runs/demo/model", "digest": "0123456789abcdef",
        "facts": {"bits of a token": "8"}, "config": {"depth": 4},
        "data": (
            DataFacts(
                uri="/data/manifest.parquet", sha256="ab" * 32, counts={"read": 1200, "kept": 1000},
                splits={"train": 990, "validation": 10}, settings={"side": 64},
            ),
        ),
        "trainings": (
            TrainingFacts(
                title="Pretraining", folder="/runs/demo/t", num_steps=2000, num_parameters=1234567,
                final={"loss": 0.25}, settings={"rate": 0.5},
            ),
        ),
        "evaluations": (EvaluationFacts(folder="/runs/demo/e", scores=scores, sheets=sheets, settings={"seed": 3}),),
        "gaps": ("The manifest is gone.",),
    }  # fmt: skip
    return ModelCard(**(values | changes))


def test_both_files_say_all_facts(tmp_path: Path) -> None:
    files = write_card(card(tmp_path), str(tmp_path / "card"))
    markdown = Path(files.markdown).read_text(encoding="utf-8")
    texts = check_page(Path(files.html).read_text(encoding="utf-8"), num_scripts=0)
    for words in (
        "0123456789abcdef", "/runs/demo/model", "/data/manifest.parquet", "ab" * 32, "1,200", "990", "1,234,567",
        "2,000", "0.25", "/runs/demo/e", "geneval/1", "0.75", "not measured", "no weights", "The manifest is gone.",
        '"side": 64', '"rate": 0.5', '"seed": 3', "sheet a", "sheet b",
    ):  # fmt: skip
        assert words in texts, words
        assert words in markdown.replace("\\", ""), words


def test_limits_come_from_the_records(tmp_path: Path) -> None:
    limits = " ".join(card(tmp_path).limits)
    assert "The manifest is gone." in limits
    assert "Not measured: fid (no weights)." in limits
    assert "nobody was asked" in limits
    score = Score.share("geneval.overall", 3, 4, protocol="geneval/1", note="INCOMPLETE: 1 of 5 pictures")
    found = EvaluationFacts(folder="/e", scores=(score,), sheets=(), settings={"hps": {"prompts": []}})
    data = DataFacts(uri="/m", sha256="0" * 64, counts={}, splits={}, settings={"licence": "CC0"})
    other = " ".join(card(tmp_path, evaluations=(found,), data=(data,), gaps=()).limits)
    assert "on a part, since pictures are missing: geneval.overall" in other
    assert "nobody was asked" not in other


def test_licences_and_use_are_stated_or_said_to_be_unknown(tmp_path: Path) -> None:
    unknown = " ".join(card(tmp_path).stated)
    assert unknown.count("states") == 3
    data = DataFacts(uri="/m", sha256="0" * 64, counts={}, splits={}, settings={"licence": "CC0"})
    made = card(tmp_path, data=(data,), licence="MIT | *", use="drawing stars")
    files = write_card(made, str(tmp_path / "card"))
    for text in (Path(files.markdown).read_text().replace("\\", ""), Path(files.html).read_text()):
        for words in ("Licence of the weights: MIT | *.", "Licence of the data: CC0.", "Intended use: drawing stars."):
            assert words in text
        assert "Nobody states" not in text


def test_the_first_page_says_protocol_sampling_and_the_command_of_its_scores(tmp_path: Path) -> None:
    score = Score.share("geneval.overall", 3, 4, protocol="geneval/1: by hand; every detail")
    found = EvaluationFacts(folder="/e", scores=(score,), sheets=(), settings={}, made="drawn with care; again: go")
    html = Path(write_card(card(tmp_path, evaluations=(found,)), str(tmp_path / "card")).html).read_text()
    first = html[html.index("What was measured") :].split("<details>")[0]
    assert "<td>geneval/1</td>" in first
    assert "drawn with care; again: go" in first


def test_the_first_page_has_overall_scores_first_and_no_more_than_fit(tmp_path: Path) -> None:
    scores = [Score.share(f"geneval.task_{index}", 3, 4, protocol="g") for index in range(20)]
    scores += [
        Score.share("geneval.overall", 3, 4, protocol="g"),
        Score.not_measured("fid", "", protocol="f", reason="x"),
    ]
    made = card(tmp_path, evaluations=(EvaluationFacts(folder="/e", scores=tuple(scores), sheets=(), settings={}),))
    names = [score.metric for score in made.headline]
    assert names[0] == "geneval.overall"
    assert len(names) == 8
    html = Path(write_card(made, str(tmp_path / "card")).html).read_text(encoding="utf-8")
    assert "geneval.task_19" in html


def test_sheets_of_one_name_are_copied_apart_and_linked_from_the_markdown(tmp_path: Path) -> None:
    files = write_card(card(tmp_path), str(tmp_path / "card"))
    linked = re.findall(r"\]\((pictures/[^)]+)\)", Path(files.markdown).read_text(encoding="utf-8"))
    assert len(linked) == len(set(linked)) == 2
    colors = [Image.open(tmp_path / "card" / name).getpixel((0, 0)) for name in linked]
    assert colors == [(255, 0, 0), (0, 255, 0)]


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_card(card(tmp_path), str(tmp_path / name)) for name in ("one", "two"))
    for name in ("markdown", "html"):
        assert Path(getattr(first, name)).read_bytes() == Path(getattr(second, name)).read_bytes()


def test_a_model_without_records_has_a_card_that_says_so(tmp_path: Path) -> None:
    bare = card(tmp_path, data=(), trainings=(), evaluations=(), gaps=())
    files = write_card(bare, str(tmp_path / "card"))
    texts = check_page(Path(files.html).read_text(encoding="utf-8"), num_scripts=0)
    markdown = Path(files.markdown).read_text(encoding="utf-8")
    for words in (
        "There is no record of its data set.",
        "There is no record of its training.",
        "It was not evaluated.",
    ):
        assert words in texts
        assert words in markdown
    assert "Nothing was measured: what it draws is unknown." in markdown
    assert not (tmp_path / "card" / "pictures").exists()


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    score = Score(metric="m", value=0.5, unit=HOSTILE, n=3, protocol=HOSTILE, note=HOSTILE)
    evaluation = EvaluationFacts(folder=HOSTILE, scores=(score,), sheets=(), settings={HOSTILE: HOSTILE})
    hostile = card(tmp_path, title=HOSTILE, facts={HOSTILE: HOSTILE}, evaluations=(evaluation,), gaps=(HOSTILE,))
    files = write_card(hostile, str(tmp_path / "card"))
    texts = check_page(Path(files.html).read_text(encoding="utf-8"), num_scripts=0)
    assert texts.count(squeezed(HOSTILE)) >= 7
    outside_code = re.sub(r"```json.*?```", "", Path(files.markdown).read_text(encoding="utf-8"), flags=re.DOTALL)
    plain_lines = [line for line in outside_code.splitlines() if not line.startswith("Evaluation `")]
    assert not [line for line in plain_lines if re.search(r"(?<!\\)<script", line)]


def test_a_sheet_that_is_gone_is_named_and_no_card_is_left_behind(tmp_path: Path) -> None:
    made = card(tmp_path)
    (tmp_path / "sheet.png").unlink()
    with pytest.raises(FileMissingError, match=r"sheet\.png"):
        write_card(made, str(tmp_path / "card"))
    assert not (tmp_path / "card" / "README.md").exists()


def test_a_printed_card_has_two_pages(tmp_path: Path, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("starts a browser; run with --exhaustive")
    if (reason := why_no_browser()) is not None:
        pytest.skip(reason)
    counts = {"read": 12000, "kept": 10000} | {f"dropped_reason_{index}": index for index in range(14)}
    data = card(tmp_path).data[0]
    trainings = card(tmp_path).trainings * 3
    scores = tuple(Score.share(f"geneval.task_{index}", 3, 4, protocol="rules " * 40) for index in range(30))
    sheets = tuple(
        Sheet(image=picture(tmp_path / f"{index}.png", (9, 9, index)), title="t", captions=("a caption",) * 12)
        for index in range(5)
    )
    found = EvaluationFacts(folder="/e", scores=scores, sheets=sheets, settings={})
    made = card(tmp_path, data=(dataclasses.replace(data, counts=counts),), trainings=trainings, evaluations=(found,))
    files = write_card(made, str(tmp_path / "card"))
    with open_browser() as browser:
        browser.open(Path(files.html).as_uri(), settle_s=1.0)
        assert browser.errors() == []
        assert len(re.findall(rb"/Type\s*/Page\b", browser.print())) == 2
