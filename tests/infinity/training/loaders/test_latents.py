"""Features that are kept, those that are computed at every step, and the memory that decides between the two."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.batches import BatchIds, BatchPlan
from infinity.data.loading.captions import CaptionConfig, CaptionDraw
from infinity.text import TextCondition
from infinity.text.builtin import BuiltinTextEncoder
from infinity.tokenizer import Tokenizer
from infinity.tokenizer.residual import ResidualLoop
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.loaders import latents
from infinity.training.loaders.latents import CaptionFeatures, LatentBatch, LatentLoader
from infinity.training.loaders.pictures import LoaderConfig
from tests.fixtures.data.stored_sets import make_set
from tests.fixtures.data.training_pictures import RESOLUTION, TEXT, TOKENIZER

COUNTS = {0.5: 5, 1.0: 9}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return make_set(str(tmp_path_factory.mktemp("set")), COUNTS)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = Tokenizer(TOKENIZER)
    made.init_weights(torch.Generator().manual_seed(0))
    return made.eval().requires_grad_(False)


def feed_of(
    manifest: Manifest, tokenizer: Tokenizer, cache_bytes: int, told: list[tuple[float, str]] | None = None
) -> LatentLoader:
    plan = BatchPlan(manifest, "train", 4, seed=1)
    share = LoaderConfig(manifest=manifest, plan=plan, resolution=RESOLUTION, group=ProcessGroup())
    heard = told if told is not None else []
    return LatentLoader(
        share, tokenizer, captions, cache_bytes=cache_bytes, on_progress=lambda *what: heard.append(what)
    )


def captions(ids: BatchIds) -> TextCondition:
    return TextCondition.pack([torch.full((2, 4), float(row)) for row in ids.rows])


def needed_bytes(tokenizer: Tokenizer) -> int:
    total = 0
    for ratio, count in COUNTS.items():
        rows, columns = RESOLUTION.schedule(ratio).last_grid
        total += count * rows * columns * tokenizer.config.num_bits * 4
    return total


def test_kept_features_are_those_that_are_computed_at_every_step(
    manifest: Manifest, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "_CHUNK", 4)
    kept, anew = feed_of(manifest, tokenizer, 2**30), feed_of(manifest, tokenizer, 0)
    for step in range(8):
        for a, b in zip(kept(step), anew(step), strict=True):
            assert (a.keys, a.schedule) == (b.keys, b.schedule)
            torch.testing.assert_close(a.latents, b.latents, atol=1e-5, rtol=1e-5)
            assert torch.equal(a.text.features_TD, b.text.features_TD)
    torch.testing.assert_close(kept.usage(), anew.usage())
    torch.testing.assert_close(kept.usage(5), anew.usage(5))
    for feed in (kept, anew):
        feed.close()


def test_features_are_kept_where_they_just_fit_and_the_share_done_is_told(
    manifest: Manifest, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "_CHUNK", 4)
    for room, encodes in ((0, True), (-1, False)):
        told: list[tuple[float, str]] = []
        feed_of(manifest, tokenizer, needed_bytes(tokenizer) + room, told).close()
        assert bool(told) is encodes
        if encodes:
            assert [share for share, _ in told] == pytest.approx([4 / 14, 5 / 14, 9 / 14, 13 / 14, 1.0])
            assert told[-1][1] == "encoded 14 of 14 pictures"


def test_usage_is_over_pictures_of_the_commonest_ratio(manifest: Manifest, tokenizer: Tokenizer) -> None:
    feed = feed_of(manifest, tokenizer, 2**30)
    found = feed.usage(3)
    rows = tuple(int(row) for row in manifest.rows("train", 1.0)[:3])
    schedule = RESOLUTION.schedule(1.0)
    loop = ResidualLoop(schedule, batch_size=3, num_bits=8, kind=TOKENIZER.quantizer)
    features = feed._cached(BatchIds(1.0, rows))
    expected = [bits.float().mean(dim=(0, 1, 2)) for bits in loop.label(features)]
    torch.testing.assert_close(found, torch.stack(expected))
    feed.close()


def test_a_batch_without_some_samples_has_the_others_with_all_that_is_theirs() -> None:
    schedule = RESOLUTION.schedule(1.0)
    texts = TextCondition.pack([torch.full((n, 4), float(n)) for n in (1, 2, 3)])
    batch = LatentBatch(("a", "b", "c"), schedule, torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 8, 4, 4), texts)
    assert batch.without(frozenset(["x"])) is batch
    left = batch.without(frozenset(["b"]))
    assert left is not None
    assert left.keys == ("a", "c")
    assert left.latents[:, 0, 0, 0].tolist() == [0.0, 2.0]
    assert [each.shape[0] for each in left.text.unpack()] == [1, 3]
    assert left.num_tokens == 2 * schedule.num_tokens


class Counted:
    """The built-in encoder, which remembers what it was asked."""

    def __init__(self) -> None:
        self.real, self.asked = BuiltinTextEncoder(TEXT), list[str]()

    def encode(self, texts: Sequence[str]) -> TextCondition:
        self.asked += texts
        return self.real.encode(texts)


def sizes(features: Sequence[Tensor]) -> list[int]:
    return [each.numel() * each.element_size() for each in features]


def test_captions_are_encoded_once_while_there_is_room(manifest: Manifest) -> None:
    texts = [f"picture {row}" for row in (0, 1, 2)]
    one = sizes(BuiltinTextEncoder(TEXT).encode(texts[:1]).unpack())[0]
    ids = [BatchIds(1.0, rows, (0,) * len(rows)) for rows in ((0, 1), (1, 0), (2, 0, 1), (2, 0))]
    for room, asked in ((2 * one, [0, 1, 2, 2]), (one, [0, 1, 1, 2, 1, 2]), (one - 1, [0, 1, 1, 0, 2, 0, 1, 2, 0])):
        encoder = Counted()
        draw = CaptionDraw(manifest, CaptionConfig(), 0, encoder.real.num_tokens, 16)
        features = CaptionFeatures(draw, encoder, max_bytes=room)  # type: ignore[arg-type]
        for each in ids:
            expected = encoder.real.encode([f"picture {row}" for row in each.rows])
            assert torch.equal(features(each).features_TD, expected.features_TD)
        assert encoder.asked == [texts[row] for row in asked]
