"""Pauses are spread, and bounded."""

import random

from infinity.storage.jitter import jittered


def test_a_pause_is_between_half_and_all_of_it_and_spread() -> None:
    chance = random.Random(0)
    pauses = [jittered(8.0, chance) for _ in range(1000)]
    assert 4.0 <= min(pauses) < 4.1
    assert 7.9 < max(pauses) <= 8.0
    assert len(set(pauses)) > 990
    assert 5.9 < sum(pauses) / 1000 < 6.1


def test_the_same_seed_gives_the_same_pauses() -> None:
    assert jittered(1.0, random.Random(3)) == jittered(1.0, random.Random(3))


def test_those_who_failed_together_do_not_come_back_together() -> None:
    assert len({jittered(1.0) for _ in range(20)}) > 1
