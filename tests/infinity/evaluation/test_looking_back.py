"""Blocks that look back further get a larger budget of the cache, with a given mean."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from infinity.evaluation.benchmark import EvalContext, EvalTarget
from infinity.evaluation.looking_back import LookBackPart, WatchedCache, budgets
from infinity.generation.sampling import SamplingConfig
from tests.fixtures.data.small_world import write_model


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.75, 0.9, 1.0])
@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_budgets_have_the_mean_and_favour_who_looks_back_furthest(share: float, depth: int) -> None:
    look_back = [((block * 5) % depth) / depth for block in range(depth)]
    found = budgets(look_back, share)
    assert sum(found) / depth == pytest.approx(share)
    assert all(0 < each <= 1 for each in found)
    pairs = sorted(zip(look_back, found, strict=True))
    assert all(a[1] <= b[1] + 1e-9 for a, b in itertools.pairwise(pairs))


def test_attention_to_all_is_one_and_to_a_single_token_is_its_share() -> None:
    cache = WatchedCache(30)
    keys = torch.zeros(1, 2, 10, 4)
    cache.forget(torch.zeros(1, 2, 5, 4), cache.extend(keys, keys)[0])
    keys = torch.zeros(1, 2, 10, 4)
    keys[:, :, 3] = 100.0
    cache.forget(torch.ones(1, 2, 5, 4), cache.extend(keys, keys)[0])
    assert [float(each) for each in cache.spreads] == pytest.approx([1.0, 1 / 20])


def test_every_block_of_a_model_is_watched(tmp_path: Path) -> None:
    target = EvalTarget(
        model=write_model(tmp_path), manifest=None, split="validation", sampling=SamplingConfig(), seed=0,
        batch_size=1, inception=None, device="cpu",
    )  # fmt: skip
    context = EvalContext(target)
    one, other = (LookBackPart(prompt).compute(context) for prompt in ("a red circle", "two stars"))
    total = one + other
    assert total.pictures == 2
    assert total.shares == pytest.approx([(a + b) / 2 for a, b in zip(one.shares, other.shares, strict=True)])
    assert all(0 < share <= 1 for share in total.shares)
    assert LookBackPart("a red circle").compute(context) == one
