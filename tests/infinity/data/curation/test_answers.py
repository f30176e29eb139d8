"""Answers of networks lie beside the facts they go with, and are refused where they are those of other rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infinity import storage
from infinity.data.curation.answers import CAPTION, Answers, AnswersError, absent, keep, place_of
from infinity.data.curation.facts import FACTS, SMALL_FACTS
from infinity.data.tables import table_of

ROWS = (3, 5, 8)


def facts(problem: str | None = None) -> pa.Table:
    """Three rows, of which the middle one may be unreadable."""
    rows = [{"row": row, "caption": f"short {row}", "problem": problem if row == 5 else None} for row in ROWS]
    return table_of(rows, FACTS).select(SMALL_FACTS)


def answers(folder: Path, name: str, values: list[float] | list[str], rows: tuple[int, ...] = ROWS) -> Answers:
    keep(place_of(str(folder / name), "facts/abc/000000000000.parquet"), pa.chunked_array([list(rows)]), name, values)
    return Answers(folders=((name, str(folder / name)),))


URI = "somewhere/facts/abc/000000000000.parquet"


def test_scores_stand_beside_readable_rows_alone(tmp_path: Path) -> None:
    found = answers(tmp_path, "watermark", [0.25, 0.5], (3, 8)).attach(facts("truncated"), URI)
    assert found["watermark"].to_pylist() == [0.25, None, 0.5]
    assert found["watermark"].type == pa.float32()
    assert found.drop_columns(["watermark"]).equals(facts("truncated"))


@pytest.mark.parametrize(("choice", "wanted"), [("long", "a long one"), ("short", "short 3")])
def test_new_captions_are_the_long_ones(tmp_path: Path, choice: str, wanted: str) -> None:
    kept = answers(tmp_path, CAPTION, ["a long one", "", "x"])
    found = Answers(folders=kept.folders, choice=choice).attach(facts(), URI).to_pylist()  # type: ignore[arg-type]
    assert (found[0]["caption"], found[0]["caption_long"], found[0]["caption_short"]) == (
        wanted, "a long one", "short 3",
    )  # fmt: skip
    assert (found[1]["caption"], found[1]["caption_long"]) == ("short 5", None)  # the model said nothing


def test_captions_come_before_scores_and_alone_where_asked(tmp_path: Path) -> None:
    both = Answers(
        folders=(*answers(tmp_path, "clip", [1.0] * 3).folders, *answers(tmp_path, CAPTION, ["y"] * 3).folders)
    )
    found = both.attach(facts(), URI)
    assert found["caption"].to_pylist() == ["y"] * 3
    assert found["clip"].to_pylist() == [1.0] * 3
    assert both.only(CAPTION).attach(facts(), URI).column_names == list(SMALL_FACTS)
    assert both.only("none").attach(facts(), URI).equals(facts())


def test_answers_of_other_rows_are_refused(tmp_path: Path) -> None:
    kept = answers(tmp_path, "watermark", [0.1, 0.2], (3, 8))
    with pytest.raises(AnswersError, match="expected the answers to 3 pictures, found 2 rows"):
        kept.attach(facts(), URI)
    place = Path(place_of(str(tmp_path / "watermark"), URI))
    place.write_bytes(b"PAR1 and no more")
    with pytest.raises(AnswersError, match="expected a Parquet file of a network's answers"):
        kept.attach(facts(), URI)
    place.unlink()
    with pytest.raises(storage.FileMissingError):
        kept.attach(facts(), URI)


def test_the_first_answers_stay(tmp_path: Path) -> None:
    kept = answers(tmp_path, "watermark", [0.1, 0.2, 0.3])
    answers(tmp_path, "watermark", [0.7, 0.8, 0.9])
    assert kept.attach(facts(), URI)["watermark"].to_pylist() == pytest.approx([0.1, 0.2, 0.3])
    assert pq.read_table(place_of(str(tmp_path / "watermark"), URI)).column_names == ["row", "watermark"]


def test_missing_answers_are_told_by_the_folder_of_their_facts(tmp_path: Path) -> None:
    answers(tmp_path, "watermark", [0.1, 0.2, 0.3])
    files = [URI, URI.replace("abc", "other"), URI.replace("0.parquet", "1.parquet")]
    assert absent(str(tmp_path / "watermark"), files) == [False, True, True]
    assert absent(str(tmp_path / "nowhere"), files) == [True, True, True]
