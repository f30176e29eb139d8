"""Which models stay out after a rollback: those that it took back, until somebody asks for one by name."""

from infinity.evaluation.promotion.champions import Champion
from infinity.evaluation.promotion.rolled_back import rolled_back


def record(number: int, digest: str, action: str = "promote", *, set_aside: tuple[str, ...] | None = None) -> Champion:
    return Champion(
        family="f", number=number, parent=number - 1, action=action, model=f"/{digest}", model_digest=digest,  # type: ignore[arg-type]
        evaluation=None, scores=(), why="w", who="a@b", when="2026", token="t", set_aside=set_aside,
    )  # fmt: skip


def out(*history: Champion) -> set[str]:
    return set(rolled_back(history))


def test_nobody_is_out_before_a_rollback() -> None:
    assert out() == out(record(1, "a"), record(2, "b")) == set()


def test_records_of_earlier_versions_are_read_by_who_was_champion_in_between() -> None:
    history = (record(1, "a"), record(2, "b"), record(3, "c"), record(4, "a", "rollback"))
    found = rolled_back(history)
    assert set(found) == {"b", "c"}
    assert found["b"] == history[3]


def test_a_promotion_or_a_rollback_to_it_ends_it() -> None:
    history = (record(1, "a"), record(2, "b"), record(3, "a", "rollback", set_aside=("b",)))
    assert out(*history) == {"b"}
    assert out(*history, record(4, "b")) == set()
    assert out(*history, record(4, "b", "rollback", set_aside=("a",))) == {"a"}


def test_a_rollback_that_sets_nobody_aside_is_no_record_of_an_earlier_version() -> None:
    history = (record(1, "a"), record(2, "b"), record(3, "a", "rollback", set_aside=("b",)))
    assert out(*history, record(4, "b", "rollback", set_aside=())) == set()


def test_models_that_replaced_nobody_may_be_set_aside_too() -> None:
    assert out(record(1, "a"), record(2, "a", "rollback", set_aside=("twin",))) == {"twin"}
