"""Edits leave every bit outside the mask alone, and every pixel that no changed bit reaches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from infinity.bits import BitLabels
from infinity.data.images.fitting import fit
from infinity.generation.editing.edits import draw_edit, inpainting, recorded, variation
from infinity.generation.editing.masks import decoder_reach, pixel_mask, reached_pixels, redrawn_tokens
from infinity.generation.editing.records import edit_record, recorded_bits
from infinity.generation.editing.sources import PictureBits, bits_of_image, decoded_bits, on_canvas
from infinity.generation.files.picture_files import EditRecord
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.generation.sampling import SamplingConfig
from infinity.presets import tokenizer_preset
from infinity.scales import Resolution, ScaleSchedule
from infinity.tokenizer import Tokenizer
from tests.fixtures.data.small_world import write_model

SAMPLING = SamplingConfig(guidance=2.0)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> InfinityPipeline:
    return InfinityPipeline.from_pretrained(write_model(tmp_path_factory.mktemp("model")), device="cpu")


@pytest.fixture(scope="module")
def source(pipe: InfinityPipeline) -> PictureBits:
    return pipe.source(pipe("a red cube", seed=3))


def random_mask(numbers: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A rectangle, an ellipse, dots, or a stroke."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    top, left = (int(numbers.integers(side)) for side in size)
    high, wide = (1 + int(numbers.integers(side)) for side in size)
    kinds = (
        lambda: (abs(rows - top) < high / 2) & (abs(columns - left) < wide / 2),
        lambda: ((rows - top) / high) ** 2 + ((columns - left) / wide) ** 2 < 0.5,
        lambda: numbers.random(size) < numbers.random(),
        lambda: abs(rows * high - columns * wide) < size[0] * 8,
    )
    return np.asarray(kinds[int(numbers.integers(4))](), dtype=bool)


@pytest.mark.parametrize("size", [(24, 24), (12, 36), (36, 12), (24, 27), (100, 99)])
def test_a_mask_is_cropped_as_its_picture_is(size: tuple[int, int]) -> None:
    """A mask drawn over a picture of any shape marks what it covers there."""
    picture = np.zeros((*size, 3), np.uint8)
    picture[size[0] // 3 : size[0] // 2, size[1] // 3 : size[1] // 2] = 255
    mask = picture[..., 0] > 0
    fitted = fit(Image.fromarray(picture), (24, 24))[..., 0]
    found = pixel_mask(mask, (24, 24)).numpy()
    assert found.any()
    sure = (fitted < 50) | (fitted > 205)  # edges are blurred
    assert np.array_equal(found[sure], fitted[sure] > 127)
    assert sure.mean() > 0.7


def test_bits_outside_200_random_masks_are_equal(pipe: InfinityPipeline, exhaustive: bool) -> None:
    numbers, edited, changed = np.random.default_rng(0), 0, 0
    ratios = (1.0, 0.5, 2.0)
    sources = [pipe.source(pipe("a red cube", seed=3, aspect_ratio=ratio)) for ratio in ratios]
    for index in range(200 if exhaustive else 24):
        source = sources[index % 3]
        mask = random_mask(numbers, source.size_px)
        try:
            edit = inpainting(source, mask)
        except ValueError as error:
            assert "covers less than" in str(error)  # noqa: PT017
            continue
        drawn = draw_edit(pipe.pipeline, edit, ["a blue ball"], [index], SAMPLING)
        same = (drawn.labels.bits_BLC == source.labels.bits_BLC)[0]
        assert bool(same[edit.kept_L].all())
        outside = [
            torch.nn.functional.adaptive_max_pool2d(torch.from_numpy(mask)[None].float(), grid).flatten() == 0
            for grid in source.labels.schedule.grids
        ]
        assert bool(same[torch.cat(outside)].all())
        edited += 1
        changed += int(not bool(same.all()))
    assert edited >= (100 if exhaustive else 12)
    assert changed > edited / 2


def test_everything_masked_is_a_plain_drawing_and_nothing_masked_the_source(
    pipe: InfinityPipeline, source: PictureBits
) -> None:
    everything = inpainting(source, np.ones((5, 7), dtype=bool))
    drawn = draw_edit(pipe.pipeline, everything, ["a blue ball"], [9], SAMPLING)
    plain = pipe.pipeline.generate(["a blue ball"], seeds=[9], sampling=SAMPLING)
    assert torch.equal(drawn.labels.bits_BLC, plain.labels.bits_BLC)
    nothing = type(everything)(source, torch.ones_like(everything.kept_L))
    same = draw_edit(pipe.pipeline, nothing, ["a blue ball"], [9], SAMPLING)
    assert torch.equal(same.labels.bits_BLC, source.labels.bits_BLC)
    assert torch.equal(same.images_BHW3[0], source.image_HW3)


def test_an_edit_is_the_same_alone_and_among_others(pipe: InfinityPipeline, source: PictureBits) -> None:
    edit = inpainting(source, np.tri(12, dtype=bool))
    together = draw_edit(pipe.pipeline, edit, ["a", "b", "a"], [1, 1, 2], SAMPLING, batch_size=2)
    for row, (prompt, seed) in enumerate((("a", 1), ("b", 1), ("a", 2))):
        alone = draw_edit(pipe.pipeline, edit, [prompt], [seed], SAMPLING)
        assert torch.equal(alone.labels.bits_BLC[0], together.labels.bits_BLC[row])


def test_a_variation_keeps_the_first_scales_and_draws_the_others(pipe: InfinityPipeline, source: PictureBits) -> None:
    schedule = source.labels.schedule
    for keep in range(1, schedule.num_scales):
        drawn = draw_edit(pipe.pipeline, variation(source, keep), ["a red cube"], [77], SAMPLING)
        for k in range(schedule.num_scales):
            same = torch.equal(drawn.labels.scale(k), source.labels.scale(k))
            assert same or k >= keep
        assert not torch.equal(drawn.labels.bits_BLC, source.labels.bits_BLC)
    for wrong in (0, schedule.num_scales):
        with pytest.raises(ValueError, match="keep_scales: expected 1 to"):
            variation(source, wrong)


@pytest.fixture(scope="module")
def attentive(tmp_path_factory: pytest.TempPathFactory) -> InfinityPipeline:
    """A model whose random weights are large, so that every prompt gives other bits."""
    pipe = InfinityPipeline.from_pretrained(write_model(tmp_path_factory.mktemp("large")), device="cpu")
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in pipe.pipeline.transformer.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=numbers))
    return pipe


def test_a_blend_is_one_prompt_up_to_a_scale_and_another_from_it(attentive: InfinityPipeline) -> None:
    pipe = attentive
    one, other = (pipe(text, seed=4, output_type="pt").bits for text in ("a red cube", "two blue balls"))
    last = one.schedule.num_scales
    blends = [pipe.blend("a red cube", "two blue balls", later_scale=k, seed=4) for k in range(last + 1)]
    assert torch.equal(blends[last].bits.bits_BLC, one.bits_BLC)
    for k, blend in enumerate(blends):
        assert torch.equal(blend.bits.bits_BLC[:, : one.schedule.spans[k].start if k < last else None],
                           one.bits_BLC[:, : one.schedule.spans[k].start if k < last else None])  # fmt: skip
    assert not torch.equal(blends[1].bits.bits_BLC, one.bits_BLC)
    assert not torch.equal(blends[1].bits.bits_BLC, other.bits_BLC)
    with pytest.raises(ValueError, match="later prompt: expected a scale"):
        pipe.blend("a", "b", later_scale=last + 1)


def test_outpainting_keeps_the_middle(pipe: InfinityPipeline) -> None:
    square = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    edit = pipe.outpainting(square, 0.5)
    rows, columns = edit.source.labels.schedule.last_grid
    assert columns > rows
    kept = edit.kept_L[edit.source.labels.schedule.spans[-1]].reshape(rows, columns)
    assert bool(kept[:, columns // 2].all())
    assert not kept[:, 0].any()
    result = pipe.outpaint(square, "a red cube", 0.5)
    assert torch.equal(result.bits.bits_BLC[0][edit.kept_L], edit.source.labels.bits_BLC[0][edit.kept_L])
    with pytest.raises(ValueError, match="already has the shape"):
        pipe.outpaint(square, "a red cube", 1.0)


def plain_convolutions(name: str) -> Tokenizer:
    """A tokenizer without group norms, whose decoder is convolutions alone."""
    tokenizer = Tokenizer(tokenizer_preset(name))
    tokenizer.init_weights(torch.Generator().manual_seed(0))
    for module in list(tokenizer.decoder.modules()):
        for child, value in list(module.named_children()):
            if isinstance(value, nn.GroupNorm):
                setattr(module, child, nn.Identity())
    return tokenizer.double().eval()


@pytest.mark.parametrize("name", ["scenes"])
def test_the_reach_of_the_decoder_is_that_of_its_convolutions(name: str) -> None:
    tokenizer = plain_convolutions(name)
    config, side = tokenizer.config, 2 * decoder_reach(tokenizer.config) + 5
    latent = torch.zeros(1, config.num_bits, side, side, dtype=torch.float64)
    other = latent.clone()
    other[0, :, side // 2, side // 2] = 1.0
    with torch.no_grad():
        differs = (tokenizer.decoder(latent) != tokenizer.decoder(other)).any(dim=1)[0]
    size = tuple(differs.shape)
    reached = reached_pixels(other - latent, config, (size[0], size[1]))
    assert not bool((differs & ~reached).any())
    stride = config.autoencoder.stride_px
    rows = differs.any(dim=1).nonzero()
    spread = max(int(side // 2 * stride - rows.min()), int(rows.max() - (side // 2 + 1) * stride + 1))
    assert decoder_reach(config) * stride - 2 * stride < spread <= decoder_reach(config) * stride


def test_pixels_beyond_the_reach_are_those_of_the_source(tmp_path: Path) -> None:
    """In a picture larger than the reach; the group norms alone would change pixels everywhere."""
    pipe = InfinityPipeline.from_pretrained(write_model(tmp_path), device="cpu")
    config = pipe.pipeline.tokenizer.config
    side = 2 * decoder_reach(config) + 6
    labels_schedule = Resolution(sides=(side,)).schedule(1.0)
    bits = torch.rand(1, side * side, config.num_bits, generator=torch.Generator().manual_seed(0)) < 0.5
    source = decoded_bits(pipe.pipeline, BitLabels(labels_schedule, bits), 1.0)
    other = bits.clone()
    other[0, 0] ^= True
    changed = decoded_bits(pipe.pipeline, BitLabels(labels_schedule, other), 1.0)
    from infinity.generation.editing.edits import with_source_pixels
    from infinity.generation.generate import Generated

    drawn = Generated(images_BHW3=changed.image_HW3[None], labels=changed.labels)
    pasted = with_source_pixels(pipe.pipeline, drawn, 0, source)
    reach = (decoder_reach(config) + 1) * config.autoencoder.stride_px
    assert torch.equal(pasted[reach:], source.image_HW3[reach:])
    assert torch.equal(pasted[:, reach:], source.image_HW3[:, reach:])
    assert torch.equal(pasted[:4, :4], changed.image_HW3[:4, :4])


def test_masks_of_any_kind_mean_the_same() -> None:
    array = np.zeros((4, 6), dtype=bool)
    array[1, 2:5] = True
    picture = Image.fromarray((array * 255).astype(np.uint8))
    for mask in (array, torch.from_numpy(array), array.astype(np.float32), picture, picture.convert("RGB")):
        assert np.array_equal(pixel_mask(mask, (4, 6)).numpy(), array)
    assert pixel_mask(array, (8, 12)).sum() == 4 * array.sum()
    for wrong in (np.zeros(3), np.zeros((2, 2, 2)), np.zeros((0, 4))):
        with pytest.raises(ValueError, match="mask: expected a picture of one channel"):
            pixel_mask(wrong, (4, 6))
    with pytest.raises(ValueError, match="mask: expected numbers, found NaN"):
        pixel_mask(np.full((4, 6), np.nan), (4, 6))


@pytest.mark.parametrize("covered", [0.01, 0.5, 1.0])
def test_a_token_is_drawn_again_where_the_mask_covers_its_share(covered: float) -> None:
    schedule = ScaleSchedule(aspect_ratio=1.0, grids=((1, 1), (2, 2), (4, 4)), frame=(4, 4))
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:8, :4] = True
    redrawn = redrawn_tokens(mask, schedule, covered=covered)
    fine = redrawn[5:].reshape(4, 4)
    assert fine.nonzero().tolist() == [[0, 0], [1, 0]]
    assert redrawn[1:5].tolist() == [covered <= 0.5, False, False, False]
    assert bool(redrawn[0]) == (covered <= 0.125)


@pytest.mark.parametrize("covered", [0.0, -1.0, 1.1])
def test_impossible_shares_and_empty_masks_are_named(source: PictureBits, covered: float) -> None:
    with pytest.raises(ValueError, match="expected a share above 0"):
        inpainting(source, np.ones((4, 4), dtype=bool), covered=covered)
    with pytest.raises(ValueError, match="covers less than 20% of every token"):
        inpainting(source, np.zeros((4, 4), dtype=bool))


def test_a_record_gives_the_edit_back(pipe: InfinityPipeline, source: PictureBits) -> None:
    edit = inpainting(source, np.tri(12, dtype=bool))
    again = recorded(pipe.pipeline, EditRecord.parse(edit.record.dump(), where="x"), source.aspect_ratio)
    assert torch.equal(again.kept_L, edit.kept_L)
    assert torch.equal(again.source.labels.bits_BLC, source.labels.bits_BLC)


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-8], lambda text: "%" + text[1:], lambda text: "", lambda text: "AAAA"]
)
def test_a_damaged_record_is_one_sentence(source: PictureBits, damage: object) -> None:
    record = edit_record(source.labels, torch.ones(source.labels.schedule.num_tokens, dtype=torch.bool))
    for name in ("source_bits", "kept_tokens"):
        wrong = record.replace(**{name: damage(getattr(record, name))})  # type: ignore[operator]
        with pytest.raises(ValueError, match="edit: the"):
            recorded_bits(wrong, source.labels.schedule, source.labels.num_bits)


def test_a_strange_picture_is_encoded_at_the_nearest_shape(pipe: InfinityPipeline) -> None:
    for mode, size in (("L", (31, 20)), ("RGBA", (10, 30)), ("P", (64, 64))):
        found = bits_of_image(pipe.pipeline, Image.new(mode, size))
        assert found.labels.batch_size == 1
        assert found.image_HW3.shape[2] == 3


@pytest.mark.parametrize(("preset", "tokens"), [("d32", 18), ("d56-folded", 18), ("scenes", 13)])
def test_the_reach_of_the_known_decoders(preset: str, tokens: int) -> None:
    """Published tokenizers reach 288 px at a stride of 16; docs/generation.md names these figures."""
    assert decoder_reach(tokenizer_preset(preset)) == tokens


@pytest.mark.parametrize(("aspect_ratio", "top", "left"), [(2.0, 5, 0), (0.5, 0, 5)])
def test_a_canvas_has_the_picture_in_its_middle(aspect_ratio: float, top: int, left: int) -> None:
    picture = Image.effect_noise((10, 10), 50).convert("RGB")
    canvas, mask = on_canvas(picture, aspect_ratio)
    box = (left, top, left + 10, top + 10)
    assert np.array_equal(np.array(canvas.crop(box)), np.array(picture))
    assert not np.array(mask.crop(box)).any()
    assert (np.array(mask) == 255).sum() == canvas.width * canvas.height - 100
