"""The registry of champions: history, compare-and-swap, rollback; on disk and in a bucket."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from infinity import storage
from infinity.evaluation.promotion.champions import (
    Champion,
    ChampionChangedError,
    ChampionError,
    Champions,
    family_of,
)
from infinity.evaluation.promotion.rolled_back import not_promoted, rolled_back
from infinity.evaluation.score import Score

SCORES = (Score(metric="geneval.overall", value=0.7, unit="share", n=553, protocol="geneval/1"),)


@pytest.fixture(params=["disk", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "disk" else request.getfixturevalue("s3_server")


def write_model(place: str, name: str) -> tuple[str, str]:
    """The mark of a checkpoint is all that the registry reads of it."""
    uri = storage.join(place, "models", name)
    storage.write_text(storage.join(uri, "COMMITTED"), f"digest-{name}\n")
    return uri, f"digest-{name}"


def promote(champions: Champions, place: str, name: str, follows: Champion | None) -> Champion:
    model, digest = write_model(place, name)
    return champions.promote(
        "demo", follows=follows, model=model, model_digest=digest, evaluation="/e", scores=SCORES, why=f"{name} is good"
    )


def test_history_keeps_who_when_why_scores_and_parent(place: str) -> None:
    champions = Champions(storage.join(place, "registry"))
    assert champions.families() == ()
    assert champions.champion("demo") is None
    assert champions.history("demo") == ()
    first = promote(champions, place, "a", None)
    second = promote(champions, place, "b", first)
    assert champions.champion("demo") == second
    assert champions.history("demo") == (first, second)
    assert champions.families() == ("demo",)
    assert (second.number, second.parent, second.action, second.why) == (2, 1, "promote", "b is good")
    assert second.scores == SCORES
    assert "@" in second.who
    assert second.when.startswith("20")


def test_of_promotions_at_once_one_wins_and_the_others_are_told(place: str) -> None:
    champions = Champions(storage.join(place, "registry"))
    start = promote(champions, place, "start", None)
    names = [f"m{k}" for k in range(8)]
    barrier = Barrier(len(names))

    def attempt(name: str) -> Champion | ChampionChangedError:
        barrier.wait()
        try:
            return promote(champions, place, name, start)
        except ChampionChangedError as error:
            return error

    with ThreadPoolExecutor(len(names)) as pool:
        results = list(pool.map(attempt, names))
    winners = [result for result in results if isinstance(result, Champion)]
    losers = [result for result in results if isinstance(result, ChampionChangedError)]
    assert len(winners) == 1
    assert len(losers) == len(names) - 1
    assert all(winners[0].model in str(loser) and "nothing was changed" in str(loser) for loser in losers)
    assert champions.history("demo") == (start, winners[0])


def test_a_stale_comparison_cannot_promote(place: str) -> None:
    champions = Champions(storage.join(place, "registry"))
    first = promote(champions, place, "a", None)
    promote(champions, place, "b", first)
    with pytest.raises(ChampionChangedError):
        promote(champions, place, "c", first)
    with pytest.raises(ChampionChangedError):
        promote(champions, place, "c", None)


def test_rollback_is_a_new_record_and_can_go_back_and_forth(place: str) -> None:
    champions = Champions(storage.join(place, "registry"))
    first = promote(champions, place, "a", None)
    second = promote(champions, place, "b", first)
    back = champions.rollback("demo", why="b draws no hands")
    assert (back.number, back.action, back.model, back.model_digest) == (3, "rollback", first.model, "digest-a")
    assert back.why == "back to record 1: b draws no hands"
    assert back.scores == first.scores
    forth = champions.rollback("demo", to=2)
    assert forth.model == second.model
    assert [record.number for record in champions.history("demo")] == [1, 2, 3, 4]


def test_rollback_refuses_what_leads_nowhere(tmp_path: Path) -> None:
    champions = Champions(str(tmp_path / "registry"))
    with pytest.raises(ChampionError, match="has no champion; there are champions of no family"):
        champions.rollback("demo")
    first = promote(champions, str(tmp_path), "a", None)
    with pytest.raises(ChampionError, match="never had another champion"):
        champions.rollback("demo")
    promote(champions, str(tmp_path), "b", first)
    with pytest.raises(ChampionError, match="no record 9"):
        champions.rollback("demo", to=9)
    with pytest.raises(ChampionError, match="nothing to roll back"):
        champions.rollback("demo", to=2)
    with pytest.raises(ChampionChangedError):
        champions.rollback("demo", follows=1)
    Path(first.model, "COMMITTED").write_text("another\n")
    with pytest.raises(ChampionError, match="expected the checkpoint digest-a, found another"):
        champions.rollback("demo")
    assert len(champions.history("demo")) == 2


def test_a_model_that_changed_after_its_evaluation_is_not_promoted(tmp_path: Path) -> None:
    champions = Champions(str(tmp_path / "registry"))
    model, _ = write_model(str(tmp_path), "a")
    for digest in ("digest-old",):
        with pytest.raises(ChampionError, match="trained again or deleted"):
            champions.promote(
                "demo", follows=None, model=model, model_digest=digest, evaluation="/e", scores=(), why="w"
            )
    assert champions.history("demo") == ()


def test_a_write_whose_answer_got_lost_counts_as_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    champions = Champions(str(tmp_path / "registry"))
    write_text = storage.write_text

    def twice(uri: str, text: str, *, if_absent: bool = False) -> None:
        write_text(uri, text, if_absent=if_absent)
        write_text(uri, text, if_absent=if_absent)  # the repeat of a request that was answered too late

    write_model(str(tmp_path), "a")
    monkeypatch.setattr(storage, "write_text", lambda uri, text, **kw: (twice if kw else write_text)(uri, text, **kw))
    assert promote(champions, str(tmp_path), "a", None) == champions.champion("demo")


def test_damage_is_named(tmp_path: Path) -> None:
    champions = Champions(str(tmp_path / "registry"))
    record: Champion | None = None
    for name in "abc":
        record = promote(champions, str(tmp_path), name, record)
    second = tmp_path / "registry" / "demo" / "000002.json"
    text = second.read_text()
    second.unlink()
    with pytest.raises(ChampionError, match=r"000002\.json: this record of the history is missing"):
        champions.champion("demo")
    second.write_text(json.dumps({**json.loads(text), "family": "other"}))
    with pytest.raises(ChampionError, match="expected record 2 of the family 'demo', found record 2 of 'other'"):
        champions.history("demo")


@pytest.mark.parametrize("family", ["", "a/b", "..", "-x", "a b"])
def test_names_of_families_are_plain(tmp_path: Path, family: str) -> None:
    with pytest.raises(ChampionError, match="expected letters, digits, dots and dashes"):
        Champions(str(tmp_path)).champion(family)


def test_a_rollback_names_the_models_that_it_sets_aside_also_those_that_are_skipped(place: str) -> None:
    champions = Champions(storage.join(place, "registry"))
    record: Champion | None = None
    for name in "abc":
        record = promote(champions, place, name, record)
    assert champions.rollback("demo", to=1).set_aside == ("digest-b", "digest-c")
    assert champions.rollback("demo", to=2).set_aside == ("digest-c",)  # a was champion before b: nobody rejects it


def test_a_second_rollback_goes_further_back_and_never_to_what_was_set_aside(place: str) -> None:
    champions = Champions(storage.join(place, "registry"))
    record: Champion | None = None
    for name in "abc":
        record = promote(champions, place, name, record)
    assert champions.rollback("demo").model_digest == "digest-b"
    assert champions.rollback("demo").model_digest == "digest-a"
    with pytest.raises(ChampionError, match=r"every other champion of 'demo' was set aside.*--to"):
        champions.rollback("demo")
    assert set(not_promoted(champions.history("demo"))) == {"digest-b", "digest-c"}


def test_to_roll_a_rollback_back_sets_nobody_aside_but_what_was_left_stays_out(place: str) -> None:
    champions = Champions(storage.join(place, "registry"))
    first = promote(champions, place, "a", None)
    promote(champions, place, "b", first)
    champions.rollback("demo", why="by mistake")
    back = champions.rollback("demo", to=2, why="b was right")
    assert back.set_aside == ()
    assert rolled_back(champions.history("demo")) == {}  # so a still is a measure for others
    assert not_promoted(champions.history("demo")) == {"digest-a": back}
    promote(champions, place, "c", back)
    assert not_promoted(champions.history("demo")) == {}


def test_where_nobody_else_was_champion_a_rollback_sets_the_models_aside_that_were_no_worse(place: str) -> None:
    champions = Champions(storage.join(place, "registry"))
    first = promote(champions, place, "a", None)
    model, digest = write_model(place, "twin")
    champions.keep(first, model=model, model_digest=digest, why="better in nothing")
    (note,) = champions.kept("demo")
    assert (note.model_digest, note.number, note.why) == (digest, 1, "better in nothing")
    assert champions.families() == ("demo",)
    back = champions.rollback("demo", why="the twin paints watermarks")
    assert (back.model_digest, back.set_aside) == ("digest-a", ("digest-twin",))
    with pytest.raises(ChampionError, match="never had another champion"):
        champions.rollback("demo")


def test_records_of_earlier_versions_are_read(tmp_path: Path) -> None:
    champions = Champions(str(tmp_path / "registry"))
    promote(champions, str(tmp_path), "a", None)
    file = tmp_path / "registry" / "demo" / "000001.json"
    old = json.loads(file.read_text())
    del old["set_aside"]
    file.write_text(json.dumps(old))
    assert champions.history("demo")[0].set_aside is None


def test_every_run_has_a_family_of_its_own_with_a_plain_name(tmp_path: Path) -> None:
    names = [
        "demo",
        "run_2.b",
        "my pictures",
        "my-pictures",
        "my  pictures",
        "\u732b",
        "caf\u00e9",
        "-x",
        ".hidden",
        "a/b",
    ]
    families = [family_of(name) for name in names]
    assert families[:2] == names[:2]
    assert len(set(families)) == len(names)
    assert family_of("cafe\u0301") == family_of("caf\u00e9")
    for family in families:
        assert Champions(str(tmp_path)).champion(family) is None
