"""Tokens that are left out cost nothing and change nothing before their scale; all others are computed as ever."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from infinity.evaluation.pictures.store import Drawing, PictureStore
from infinity.generation import PyramidGuidance, SamplingConfig, generate
from infinity.generation.files.picture_files import DrawingSettings
from infinity.generation.pruning import PrunedScales, computed_tokens
from infinity.kernels.switch import use_kernels
from infinity.transformer import Transformer
from tests.fixtures.models.tiny_pipeline import PROMPTS, SCHEDULE, SEEDS, tiny_parts

PRUNED = (0.5, 0.75)
GUIDED = SamplingConfig(guidance=3.0, pruned=PRUNED)
PLAIN_KEY = "249d478391a0ae3f"
"""Digest of a picture's name before tokens could be left out."""


def drawn(sampling: SamplingConfig, rows: slice = slice(None), **changes: object) -> Tensor:
    """The bits of the tiny model's pictures."""
    parts = tiny_parts(**changes)
    return generate(*parts, PROMPTS[rows], schedule=SCHEDULE, sampling=sampling, seeds=SEEDS[rows]).labels.bits_BLC


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("length", [1, 2, 9, 16])
def test_the_tokens_furthest_from_the_mean_are_computed_and_never_none(share: float, length: int) -> None:
    inputs = torch.randn(3, length, 5, generator=torch.Generator().manual_seed(length))
    chosen = computed_tokens(inputs, share)
    assert chosen.shape == (3, max(1, length - int(share * length)))
    distance = (inputs - inputs.mean(dim=1, keepdim=True)).norm(dim=-1)
    for row, kept in zip(distance, chosen.tolist(), strict=True):
        assert kept == sorted(set(kept))
        left = [float(row[i]) for i in range(length) if i not in kept]
        assert not left or max(left) <= float(row[kept].min())


def test_plain_kernels_leave_out_the_same_tokens() -> None:
    """Compiled blocks take the plain formulas."""
    with use_kernels("plain"):
        plain = drawn(GUIDED)
    assert (plain == drawn(GUIDED)).float().mean() > 0.99


def test_shares_of_nothing_change_no_bit() -> None:
    assert torch.equal(drawn(SamplingConfig(pruned=(0.0, 0.0))), drawn(SamplingConfig()))


@pytest.mark.parametrize("positions", ["rope2d", "learned"])
def test_earlier_scales_are_untouched_and_the_pruned_one_differs(positions: str) -> None:
    shape = {} if positions == "rope2d" else {"positions": "learned"}
    plain, pruned = drawn(SamplingConfig(), **shape), drawn(SamplingConfig(pruned=(0.75,)), **shape)
    last = SCHEDULE.spans[-1].start
    assert torch.equal(plain[:, :last], pruned[:, :last])
    assert not torch.equal(plain[:, last:], pruned[:, last:])


@pytest.mark.parametrize(
    "sampling",
    [
        GUIDED,
        SamplingConfig(guidance=1.0, pruned=PRUNED),
        SamplingConfig(guidance=(3.0, 2.0, 1.0, 1.0), pruned=PRUNED),
        SamplingConfig(guidance=PyramidGuidance(), guide_logits=False, guided_blocks=(-1,), pruned=(0.6,)),
    ],
    ids=["guided", "plain", "late guidance off", "features"],
)
def test_a_picture_is_the_same_alone_and_in_a_batch(sampling: SamplingConfig) -> None:
    together = drawn(sampling)
    for number in range(len(PROMPTS)):
        assert torch.equal(drawn(sampling, slice(number, number + 1)), together[number : number + 1])


def test_the_transformer_computes_the_remaining_tokens_only(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    real = Transformer.decode_scale

    def counted(self: Transformer, *given: object) -> Tensor:
        hidden = real(self, *given)  # type: ignore[arg-type]
        lengths.append(hidden.shape[1])
        return hidden

    monkeypatch.setattr(Transformer, "decode_scale", counted)
    drawn(GUIDED)
    areas = [rows * columns for rows, columns in SCHEDULE.grids]
    assert lengths == [*areas[:-2], areas[-2] - areas[-2] // 2, areas[-1] - int(0.75 * areas[-1])]


def test_left_out_tokens_take_the_features_of_the_coarser_scale() -> None:
    pruned = PrunedScales((0.5,), SCHEDULE)
    k = SCHEDULE.num_scales - 1
    coarse, fine = (rows * columns for rows, columns in SCHEDULE.grids[-2:])
    pruned.complete(k - 1, torch.full((1, coarse, 3), 7.0), None)
    chosen = torch.tensor([[0, fine - 1]])
    whole = pruned.complete(k, torch.zeros(1, 2, 3), chosen)[0]
    assert whole[chosen[0]].eq(0).all()
    assert whole[1:-1].eq(7).all()


@pytest.mark.parametrize("pruned", [(1.0,), (-0.1,), (0.5, 2.0)])
def test_shares_that_leave_nothing_are_refused(pruned: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"pruned: expected shares from 0 to below 1"):
        SamplingConfig(pruned=pruned)


def test_the_first_scale_cannot_be_pruned() -> None:
    with pytest.raises(ValueError, match=r"at most 3 shares, one for each scale but the first, got 4"):
        drawn(SamplingConfig(pruned=(0.1,) * 4))


def test_stored_pictures_keep_their_names_and_settings_remember_the_shares() -> None:
    plain, pruned = (PictureStore("f", "m" * 16, each, "cpu") for each in (SamplingConfig(), GUIDED))
    assert plain.key(Drawing("a cat", 1)) == f"{'m' * 16}/{PLAIN_KEY[:2]}/{PLAIN_KEY}.png"
    assert pruned.key(Drawing("a cat", 1)) != plain.key(Drawing("a cat", 1))
    settings = DrawingSettings.of("a cat", 1, GUIDED, aspect_ratio=1.0, size=(8, 8), model="m")
    assert settings.sampling == GUIDED
