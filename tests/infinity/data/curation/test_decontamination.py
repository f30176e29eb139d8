"""Captions and pictures of evaluation sets are found in the data, and nothing else is."""

import json
from pathlib import Path

import pytest

from infinity.data.curation.decisions import decide
from infinity.data.curation.decontamination import EvaluationSetError, load_evaluation_sets, read_prompts
from infinity.data.curation.facts import measure_slice
from infinity.data.curation.filters import Decontamination, FilterConfig
from infinity.data.sources.opening import open_source
from tests.fixtures.data.drawn_sets import drawing
from tests.fixtures.data.facts_builder import facts_of
from tests.fixtures.data.pictures_on_disk import encoded, good_folder, image_folder

LONG = "a weathered wooden boat rests on the pebbled shore of a calm lake with mountains and tall pines behind it"


def reasons(captions: list[str], prompts: Path) -> dict[str, str]:
    sets = Decontamination(prompts=(str(prompts),))
    facts = facts_of([{"caption": caption, "name": caption} for caption in captions])
    dropped = decide(facts, FilterConfig(evaluation=sets), load_evaluation_sets(sets, 10**6)).dropped
    assert set(dropped["reason"].to_pylist()) <= {"evaluation_caption"}
    return dict(zip(dropped["name"].to_pylist(), dropped["detail"].to_pylist(), strict=True))


def test_captions_equal_to_a_prompt_or_sharing_its_words_are_dropped(tmp_path: Path) -> None:
    lines = [{"prompt": "a photo of a bench"}, {"prompt": LONG}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = reasons(
        [
            "A photo of a bench!",
            "a photo of a bench in a park under old trees",
            f"In the evening {LONG}.",
            LONG[: len(LONG) // 2 + 10],
            "a boat on a lake with mountains",
        ],
        tmp_path / "p.jsonl",
    )
    assert found == {
        "A photo of a bench!": "prompt 'a photo of a bench'",
        f"In the evening {LONG}.": f"prompt {LONG!r}",
        LONG[: len(LONG) // 2 + 10]: f"prompt {LONG!r}",
    }


def test_prompts_in_scripts_without_blanks_are_found_in_longer_captions(tmp_path: Path) -> None:
    prompt, short = "一艘破旧的木船停在平静湖泊的鹅卵石岸边后面是群山和高大的松树", "一只黑猫"
    (tmp_path / "p.txt").write_text(f"{prompt}\n{short}\n")
    captions = [f"傍晚时分，{prompt}，风很大", prompt[:22], "湖上的一艘船和群山", f"{short}坐在垫子上", f"{short}。"]
    assert reasons(captions, tmp_path / "p.txt").keys() == {captions[0], captions[1], captions[4]}


def test_prompts_are_read_from_all_forms(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.csv").write_text('id,prompt\n1,"one, two"\n')
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "0.txt").write_text("a prompt\nof two lines\n")
    assert read_prompts(str(tmp_path / "a.txt")) == ["one", "two"]
    assert read_prompts(str(tmp_path / "b.csv")) == ["one, two"]
    assert read_prompts(str(tmp_path / "folder")) == ["a prompt of two lines"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(EvaluationSetError, match="expected prompts"):
        read_prompts(str(tmp_path / "empty.txt"))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_a_prompt_table_may_end_in_any_way(tmp_path: Path, end: str) -> None:
    (tmp_path / "p.csv").write_bytes(end.join(["id,prompt", "1,a dog", '2,"a red, round cup"', ""]).encode())
    assert read_prompts(str(tmp_path / "p.csv")) == ["a dog", "a red, round cup"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name\na,b,c\n", "expected a field .* found \\['name'\\]"),
        ("prompt\n" + "a" * 140_000 + "\n", "line .*expected a row of CSV"),
    ],
)
def test_a_prompt_table_that_is_none_is_a_clear_error(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(EvaluationSetError, match=words):
        read_prompts(str(tmp_path / "p.csv"))


def test_pictures_of_an_evaluation_set_are_dropped_also_as_copies(tmp_path: Path) -> None:
    asked = {"q.png": encoded(drawing(5))}
    evaluation = image_folder(tmp_path / "eval", asked, [{"file_name": "q.png", "text": "a question"}])
    data = {
        "same.png": encoded(drawing(5)),
        "copy.jpg": encoded(drawing(5), "JPEG", quality=60),
        "other.png": encoded(drawing(6)),
    }
    source = image_folder(tmp_path / "in", data, [{"file_name": name, "text": name} for name in data])
    (piece,) = open_source(str(source)).slices
    sets = Decontamination(pictures=(str(evaluation),))
    filters = FilterConfig(evaluation=sets, duplicates="keep")
    decisions = decide(measure_slice(piece, 10**6).facts, filters, load_evaluation_sets(sets, 10**6))
    assert decisions.kept["name"].to_pylist() == ["other.png"]
    assert decisions.tally.dropped == {"evaluation_picture": 2}
    assert set(decisions.dropped["detail"].to_pylist()) == {"evaluation picture q.png"}


def test_named_sets_that_were_not_loaded_are_an_error() -> None:
    filters = FilterConfig(evaluation=Decontamination(prompts=("x.txt",)))
    with pytest.raises(ValueError, match="load them"):
        decide(facts_of([{}]), filters)


def test_folder_without_a_readable_picture_is_a_clear_error(tmp_path: Path) -> None:
    folder = good_folder(tmp_path, 1)
    (folder / "images" / "000.png").write_bytes(b"no picture")
    with pytest.raises(EvaluationSetError, match="expected pictures that can be read"):
        load_evaluation_sets(Decontamination(pictures=(str(folder),)), 10**6)
