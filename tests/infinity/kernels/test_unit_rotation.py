"""Queries and keys of length one: the hand-written gradient equals that of the plain formula."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from infinity.kernels.unit_rotation import MAX_LOG_SCALE, plain_unit_queries_and_keys, unit_queries_and_keys
from infinity.scales import Resolution
from infinity.transformer.rope import rotations

SCHEDULE = Resolution(sides=(1, 2, 3)).schedule(1.0)
TURN = torch.view_as_real(rotations(SCHEDULE, 8, "frame", torch.device("cpu")))


def _rotate(x: torch.Tensor) -> torch.Tensor:
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = TURN.unbind(-1)
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)


def _plain(joint: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
    query, key = F.normalize(joint, dim=-1).transpose(1, 2).chunk(2, dim=1)
    scale = log_scale.clamp(max=MAX_LOG_SCALE).exp()[:, None, None]
    return torch.stack([_rotate(query * scale), _rotate(key)])


@pytest.mark.parametrize("way", [unit_queries_and_keys, plain_unit_queries_and_keys])
def test_unit_queries_and_keys_equal_the_plain_formula(way: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> None:
    generator = torch.Generator().manual_seed(0)
    joint = torch.randn(2, SCHEDULE.num_tokens, 6, 8, generator=generator, requires_grad=True)
    log_scale = torch.tensor([0.5, 1.0, 5.0], requires_grad=True)  # the last one is above the bound
    expected = _plain(joint, log_scale)
    weight = torch.randn(expected.shape, generator=generator)
    found = torch.stack(way(joint, log_scale, TURN))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), (joint, log_scale)),
        torch.autograd.grad((expected * weight).sum(), (joint, log_scale)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_queries_have_their_scale_and_keys_length_one() -> None:
    joint = torch.randn(1, SCHEDULE.num_tokens, 4, 8, generator=torch.Generator().manual_seed(0))
    query, key = unit_queries_and_keys(joint, torch.tensor([math.log(4.0), 10.0]), TURN)
    lengths = query.norm(dim=-1)
    torch.testing.assert_close(lengths, torch.tensor([4.0, 100.0])[:, None].expand_as(lengths))
    torch.testing.assert_close(key.norm(dim=-1), torch.ones_like(lengths))


def test_zero_vector_stays_finite() -> None:
    joint = torch.zeros(1, SCHEDULE.num_tokens, 2, 8, requires_grad=True)
    query, key = unit_queries_and_keys(joint, torch.zeros(1), TURN)
    (query.sum() + key.sum()).backward()
    assert joint.grad is not None
    assert joint.grad.isfinite().all()
