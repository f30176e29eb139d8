"""Cached keys and values: as they are bit for bit, or within half a step of 8 bits, in as many bytes as are told."""

from __future__ import annotations

import pytest
import torch

from infinity.transformer.cache import (
    CACHE_FORMS,
    CacheForm,
    KeyValueCache,
    bytes_per_token,
    check_cache_form,
    from_int8,
    to_int8,
)


def filled(form: CacheForm | None, scales: list[int], dtype: torch.dtype = torch.float32) -> tuple[KeyValueCache, list]:
    """Return a cache of two samples with three heads of 8 channels, and the keys and values of each scale."""
    numbers, cache, pairs = torch.Generator().manual_seed(0), KeyValueCache(sum(scales), form), []
    for length in scales:
        pair = tuple(torch.randn(2, 3, length, 8, generator=numbers).to(dtype) for _ in range(2))
        pairs.append(pair)
        cache.extend(*pair)
    return cache, pairs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_a_form_all_come_back_bit_for_bit(dtype: torch.dtype) -> None:
    cache, pairs = filled(None, [1, 4], dtype)
    more = torch.ones(2, 3, 0, 8, dtype=dtype)
    for kind, found in enumerate(cache.extend(more, more)):
        assert torch.equal(found, torch.cat([pair[kind] for pair in pairs], dim=2))
        assert found.dtype == dtype


@pytest.mark.parametrize("magnitude", [1e-30, 1e-5, 1.0, 1e4, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_eight_bits_are_off_by_at_most_half_a_step(magnitude: float, dtype: torch.dtype) -> None:
    numbers = (torch.randn(2, 3, 50, 16, generator=torch.Generator().manual_seed(1)) * magnitude).to(dtype)
    codes, scale = to_int8(numbers)
    assert (codes.dtype, scale.dtype) == (torch.int8, torch.float16)
    error = (from_int8(codes, scale, torch.float32) - numbers.float()).abs()
    half = 0.501 * scale.float() + 127 * scale.float() * 2.0**-11  # of the step, and of the rounded scale
    assert bool((error <= half).all()) or magnitude == 1e30  # beyond what float16 can scale it is cut off, not NaN
    assert bool(from_int8(codes, scale, dtype).isfinite().all())


def test_a_token_is_stored_without_a_look_at_others() -> None:
    """A picture is the same alone and in any batch, and a large token costs a small one nothing."""
    numbers = torch.randn(3, 2, 5, 8, generator=torch.Generator().manual_seed(2))
    numbers[0, 0, 0] *= 1e6
    whole = from_int8(*to_int8(numbers), torch.float32)
    for sample, head, token in ((1, 0, 0), (0, 0, 1), (2, 1, 4)):
        alone = numbers[sample, head, token][None, None, None]
        assert torch.equal(from_int8(*to_int8(alone), torch.float32)[0, 0, 0], whole[sample, head, token])


def test_what_is_no_number_stays_none_and_zeros_stay_zero() -> None:
    numbers = torch.zeros(1, 1, 2, 4)
    numbers[0, 0, 1, 2] = float("nan")
    found = from_int8(*to_int8(numbers), torch.float32)
    assert torch.equal(found[0, 0, 0], torch.zeros(4))
    assert not bool(found[0, 0, 1].isfinite().any())


@pytest.mark.parametrize("form", [None, *CACHE_FORMS])
def test_samples_are_taken_out_and_repeated(form: CacheForm | None) -> None:
    cache, _ = filled(form, [1, 4])
    nothing = torch.ones(2, 3, 0, 8)
    keys, values = cache.extend(nothing, nothing)
    rows = torch.tensor([1, 0, 1])
    chosen = cache.select(rows).extend(nothing[rows], nothing[rows])
    assert torch.equal(chosen[0], keys[rows])
    assert torch.equal(chosen[1], values[rows])
    (first, _) = cache.first(1).extend(nothing[:1], nothing[:1])
    assert torch.equal(first, keys[:1])
    assert cache.first(1).length == 5


@pytest.mark.parametrize("form", [None, *CACHE_FORMS])
def test_the_bytes_are_those_that_are_told(form: CacheForm | None) -> None:
    cache, _ = filled(form, [1, 4])
    stored = sum(each.nbytes for each in cache._stored)
    assert stored == 2 * 5 * bytes_per_token(24, 3, form, torch.float32)


@pytest.mark.parametrize("by_token", [False, True])
@pytest.mark.parametrize("scales", [[1, 4, 9], [1, 4], [5]])
def test_a_last_scale_that_is_not_kept_changes_no_number(scales: list[int], by_token: bool) -> None:
    numbers = torch.Generator().manual_seed(3)
    kept = KeyValueCache(sum(scales), "int8", by_token=by_token)
    short = KeyValueCache(sum(scales), "int8", by_token=by_token, last=scales[-1])
    for length in scales:
        pair = tuple(torch.randn(2, 3, length, 8, generator=numbers) for _ in range(2))
        for found, expected in zip(short.extend(*pair), kept.extend(*pair), strict=True):
            assert torch.equal(found, expected)
            assert found.stride() == expected.stride()
    stored = sum(each.nbytes for each in short._stored)
    assert stored == 2 * sum(scales[:-1]) * bytes_per_token(24, 3, "int8", torch.float32)
    assert short.length == kept.length


def test_without_a_form_the_last_scale_is_kept_as_it_is() -> None:
    cache = KeyValueCache(5, last=4)
    pair = tuple(torch.ones(1, 1, 1, 2) for _ in range(2))
    cache.extend(*pair)
    assert cache._stored[0].shape == (1, 1, 5, 2)


def test_samples_are_taken_out_before_a_last_scale_that_is_not_kept() -> None:
    numbers = torch.Generator().manual_seed(4)
    first, last = (tuple(torch.randn(2, 3, length, 8, generator=numbers) for _ in range(2)) for length in (1, 4))
    whole, cache = KeyValueCache(5, "int8", last=4), KeyValueCache(5, "int8", last=4)
    whole.extend(*first)
    cache.extend(*first)
    rows = torch.tensor([1])
    for found, expected in zip(
        cache.select(rows).extend(last[0][rows], last[1][rows]), whole.extend(*last), strict=True
    ):
        assert torch.equal(found, expected[rows])


def test_an_unknown_form_is_one_sentence() -> None:
    assert [check_cache_form(name) for name in (None, "int8")] == [None, "int8"]
    with pytest.raises(ValueError, match="cache: expected int8, got 'int4'"):
        check_cache_form("int4")
