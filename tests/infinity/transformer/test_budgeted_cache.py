"""A cache with a budget keeps, for each picture and head, the tokens that the newest scale attends to most."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from infinity.transformer.budgeted_cache import MAX_OBSERVERS, BudgetedCache, attention_received
from infinity.transformer.cache import CacheForm, KeyValueCache

SCALES = (1, 4, 9, 16)


def scales() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Queries, keys and values (2 pictures, 3 heads, 8 channels) of every scale."""
    numbers = torch.Generator().manual_seed(0)
    return [tuple(torch.randn(2, 3, length, 8, generator=numbers) for _ in range(3)) for length in SCALES]  # type: ignore[misc]


@pytest.mark.parametrize("form", [None, "int8"])
def test_a_budget_for_all_tokens_is_the_plain_cache(form: CacheForm | None) -> None:
    plain, budgeted = KeyValueCache(sum(SCALES), form), BudgetedCache(sum(SCALES), 0.999, form)
    for query, keys, values in scales():
        found = [cache.extend(keys, values) for cache in (plain, budgeted)]
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
        budgeted.forget(query, found[1][0])


@pytest.mark.parametrize("form", [None, "int8"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
def test_the_most_attended_tokens_stay_for_each_picture_and_head(share: float, form: CacheForm | None) -> None:
    cache, seen = BudgetedCache(sum(SCALES), share, form), 0
    kept: Tensor | None = None
    for query, keys, values in scales():
        all_keys, _ = cache.extend(keys, values)
        if kept is not None:
            assert torch.equal(all_keys[:, :, : kept.shape[2]], kept), "what was kept comes first, in its order"
        seen += keys.shape[2]
        cache.forget(query, all_keys)
        if seen == sum(SCALES):
            assert cache.length == 0, "no scale comes after the last"
            return
        number = min(max(1, math.ceil(share * seen)), all_keys.shape[2])
        assert cache.length == number
        kept = torch.empty(2, 3, number, 8)
        for picture in range(2):
            for head in range(3):
                attention = (query[picture, head] @ all_keys[picture, head].T).softmax(dim=-1).mean(dim=0)
                best = sorted(sorted(range(len(attention)), key=lambda i: -float(attention[i]))[:number])
                kept[picture, head] = all_keys[picture, head, best]


def test_few_observers_of_a_large_scale_stand_for_all() -> None:
    numbers = torch.Generator().manual_seed(1)
    query, keys = (torch.randn(1, 2, length, 8, generator=numbers) for length in (1000, 30))
    received = attention_received(query, keys)
    assert received.sum(dim=-1) == pytest.approx(torch.ones(1, 2))
    step = math.ceil(1000 / MAX_OBSERVERS)
    assert torch.allclose(received, attention_received(query[:, :, ::step], keys))


def test_pictures_are_taken_out_and_repeated() -> None:
    cache = BudgetedCache(sum(SCALES), 0.5)
    for query, keys, values in scales()[:2]:
        cache.forget(query, cache.extend(keys, values)[0])
    _, keys, values = scales()[2]
    first, twice = cache.first(1), cache.select(torch.tensor([1, 1]))
    assert (first.seen, twice.seen) == (5, 5)  # type: ignore[attr-defined]
    whole = cache.extend(keys, values)[0]
    assert torch.equal(first.extend(keys[:1], values[:1])[0], whole[:1])
    assert torch.equal(twice.extend(keys[[1, 1]], values[[1, 1]])[0], whole[[1, 1]])
