"""Arguments of every type that users hand in are taken for what they mean, or refused in one sentence."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from infinity import InfinityPipeline, PipelineResult
from infinity.generation.drawing.arguments import (
    aspect_ratio_of,
    is_bfloat16,
    picture_seeds,
    place_text,
    sampling_config,
    whole_number,
)
from infinity.generation.drawing.own_pictures import source_of
from infinity.generation.drawing.redo import redo
from infinity.generation.drawing.search import search
from infinity.generation.editing.masks import mask_of, pixel_mask
from infinity.generation.files.picture_files import drawing_in, read_drawing, to_png
from infinity.generation.sampling import PyramidGuidance, SamplingConfig
from infinity.generation.watermark import BitWatermark, WatermarkKey
from infinity.transformer.adapters.lora import Adapter, AdapterError, LowRank
from infinity.transformer.adapters.lora_files import save_adapter
from tests.fixtures.data.small_world import write_model

PICTURE, MASK, CAT = Image.new("RGB", (24, 24), "red"), Image.new("L", (24, 24), 255), "a cat"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def pipe(folder: Path) -> InfinityPipeline:
    return InfinityPipeline.from_pretrained(Path(write_model(folder)))  # type: ignore[arg-type]  # a Path is fine too


@pytest.fixture(scope="module")
def adapter(pipe: InfinityPipeline, folder: Path) -> Path:
    place = "blocks.0.feed_forward.expand"
    out, inner = pipe.pipeline.transformer.get_submodule(place).weight.shape
    numbers = torch.Generator().manual_seed(0)
    layer = LowRank(torch.randn(2, inner, generator=numbers), torch.randn(out, 2, generator=numbers), 1.0)
    save_adapter(str(folder / "adapter"), Adapter("a", {place: layer}, ""))
    return folder / "adapter"


@pytest.mark.parametrize(
    "seed", [np.int64(4), np.uint8(4), torch.tensor(4), [4], (np.int32(4),), np.array([4]), range(4, 5)]
)
def test_seeds_of_any_library_are_seeds(seed: Any) -> None:
    assert picture_seeds([CAT], seed) == [4]
    assert all(type(each) is int for each in picture_seeds([CAT], seed))


def test_several_seeds_may_be_an_array_or_a_tensor_and_none_is_the_default() -> None:
    assert picture_seeds([CAT, CAT], np.array([7, 5])) == picture_seeds([CAT, CAT], torch.tensor([7, 5])) == [7, 5]  # type: ignore[arg-type]
    assert picture_seeds([CAT, CAT], None) == [0, 1]
    numbers = [torch.Generator().manual_seed(1) for _ in range(2)]
    assert picture_seeds([CAT], None, numbers[0]) == picture_seeds([CAT], 0, numbers[1])


@pytest.mark.parametrize("seed", ["7", "abc", 1.5, [1.5], [], [1, 2], {"a": 1}, object(), [None]])
def test_other_seeds_are_one_sentence(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed: expected one number or 1, one per picture"):
        picture_seeds([CAT], seed)


def test_a_list_of_generators_gives_each_picture_its_seed(pipe: InfinityPipeline) -> None:
    alone = [picture_seeds([CAT], None, torch.Generator().manual_seed(number))[0] for number in (4, 9)]
    for kind in (list, tuple):
        assert picture_seeds([CAT, CAT], None, kind(torch.Generator().manual_seed(n) for n in (4, 9))) == alone
    drawn = pipe(CAT, num_images_per_prompt=2, generator=[torch.Generator().manual_seed(n) for n in (4, 9)])
    assert drawn.seeds == tuple(alone)
    assert np.array_equal(drawn.pixels()[1:], pipe(CAT, seed=alone[1]).pixels())


@pytest.mark.parametrize(
    "generator",
    [3, [], [torch.Generator()] * 2, [None], ({},), {0: torch.Generator()}, np.random.default_rng(0), "cpu"],
)
def test_another_generator_is_one_sentence(generator: Any) -> None:
    with pytest.raises(ValueError, match="generator: expected one torch"):
        picture_seeds([CAT], 0, generator)


def test_numbers_of_numpy_and_lists_become_plain_settings(pipe: InfinityPipeline, tmp_path: Path) -> None:
    found = sampling_config(np.float32(2), [np.float64(1), 2, 1, 1], np.float32(1), "")
    assert sampling_config(np.array(2.0), torch.tensor([1.0, 2, 1, 1]), np.float16(1), "") == found
    assert sampling_config(torch.tensor(2), torch.tensor([1, 2, 1, 1]), 1, "") == found
    assert found == sampling_config(2.0, (1.0, 2, 1, 1), 1, "")
    assert sampling_config(np.array([1.0, 2.0]), 1, 1, None).guidance == (1.0, 2.0)
    (file,) = pipe(CAT, guidance_scale=np.float32(2), temperature=np.float64(0.5), seed=np.int64(3)).save(tmp_path)
    assert (read_drawing(file).guidance, read_drawing(file).seed) == (2.0, 3)


def test_whole_numbers_make_the_same_file_as_others_at_every_door(pipe: InfinityPipeline, adapter: Path) -> None:
    def file(result: PipelineResult) -> bytes:
        return to_png(result.pixels()[0], result.settings[0])

    whole = pipe(CAT, guidance_scale=3, temperature=2, top_p=1, aspect_ratio=2)
    assert file(whole) == file(pipe(CAT, guidance_scale=3.0, temperature=2.0, top_p=1.0, aspect_ratio=2.0))
    lists = pipe(CAT, guidance_scale=[1, 2, 3, 4], temperature=[2] * 4)
    pyramid = pipe(CAT, guidance_scale=PyramidGuidance(start=1, end=3))
    varied = pipe.vary(whole, CAT, keep_scales=1, sampling=SamplingConfig(guidance=2, pruned=(0,)))
    for result in (whole, lists, pyramid, varied):
        assert file(redo(pipe, drawing_in(file(result), where="test"))) == file(result)
    for scales in ((1, 1.0, np.float32(1), np.int64(1)), (0.5, np.float64(0.5), np.float16(0.5)), (-2, np.int8(-2))):
        files = []
        for scale in scales:
            pipe.set_adapters([(str(adapter), scale)])
            files.append(file(pipe(CAT)))
        assert len(set(files)) == 1
    pipe.unload_lora_weights()


@pytest.mark.parametrize("scale", [1e38, -1e300, 10**30])
def test_a_scale_that_makes_weights_infinite_changes_nothing(
    pipe: InfinityPipeline, adapter: Path, scale: float
) -> None:
    pipe.set_adapters([(str(adapter), 0.5)])
    before, large = pipe(CAT), adapter.parent / "large"
    place = "blocks.0.feed_forward.expand"
    out, inner = pipe.pipeline.transformer.get_submodule(place).weight.shape
    save_adapter(str(large), Adapter("a", {place: LowRank(torch.ones(1, inner), torch.full((out, 1), 1e9), 1.0)}, ""))
    with pytest.raises(AdapterError, match=r"adapters adapter:0.5, large:.*would hold NaN or infinity; expected small"):
        pipe.set_adapters([(str(adapter), 0.5), (str(large), scale)])
    again = pipe(CAT)
    pipe.unload_lora_weights()
    assert np.array_equal(again.pixels(), before.pixels())
    assert again.settings == before.settings


def BRIGHT(pictures: Any, _: Any) -> Any:
    return [float(picture.mean()) for picture in pictures]


def damaged(mode: str) -> Image.Image:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert(mode).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:2000]))


def closed() -> Image.Image:
    picture = Image.new("RGB", (8, 8))
    picture.close()
    return picture


REFUSED: list[tuple[str, Callable[[InfinityPipeline], Any]]] = [
    ("height: expected a number", lambda pipe: pipe(CAT, height="30", width="30")),  # type: ignore[arg-type]
    ("aspect_ratio: expected a number", lambda pipe: pipe(CAT, aspect_ratio="1")),  # type: ignore[arg-type]
    ("prompts: expected a text or a list", lambda pipe: pipe(None)),  # type: ignore[arg-type]
    ("prompts: expected a text or a list", lambda pipe: pipe(3)),  # type: ignore[arg-type]
    ("prompts: expected a text or a list", lambda pipe: pipe({CAT: 1})),  # type: ignore[arg-type]
    ("prompts: expected a text or a list", lambda pipe: pipe({CAT})),  # type: ignore[arg-type]
    ("prompts: expected at least one", lambda pipe: pipe([])),
    ("num_images_per_prompt: expected a whole", lambda pipe: pipe(CAT, num_images_per_prompt=1.5)),  # type: ignore[arg-type]
    ("num_images_per_prompt: expected at least", lambda pipe: pipe(CAT, num_images_per_prompt=0)),
    ("negative_prompt: expected one text", lambda pipe: pipe(CAT, negative_prompt=["bad"])),  # type: ignore[arg-type]
    ("half a character", lambda pipe: pipe(CAT, negative_prompt="\ud800")),
    ("guidance_scale: expected a number", lambda pipe: pipe(CAT, guidance_scale="3")),  # type: ignore[arg-type]
    ("guidance_scale: expected a number", lambda pipe: pipe(CAT, guidance_scale=None)),  # type: ignore[arg-type]
    ("temperature: expected a number", lambda pipe: pipe(CAT, temperature=["1"])),  # type: ignore[arg-type]
    ("top_p: expected a number", lambda pipe: pipe(CAT, top_p=True)),
    ("batch_size: expected a whole", lambda pipe: pipe(CAT, batch_size="2")),  # type: ignore[arg-type]
    ("callback_on_scale: expected a function", lambda pipe: pipe(CAT, callback_on_scale=3)),  # type: ignore[arg-type]
    ("image: expected a PIL picture", lambda pipe: pipe.edit(np.zeros((4, 4, 3), np.uint8), MASK, CAT)),  # type: ignore[arg-type]
    ("image: expected a PIL picture", lambda pipe: pipe.vary("a.png", CAT, keep_scales=1)),  # type: ignore[arg-type]
    ("image: expected a PIL picture", lambda pipe: pipe.outpaint(None, CAT, 2.0)),  # type: ignore[arg-type]
    ("mask: expected a PIL picture", lambda pipe: pipe.edit(PICTURE, None, CAT)),  # type: ignore[arg-type]
    ("num_images: expected a whole", lambda pipe: pipe.edit(PICTURE, MASK, CAT, num_images=1.5)),  # type: ignore[arg-type]
    ("keep_scales: expected a whole", lambda pipe: pipe.vary(PICTURE, CAT, keep_scales=1.5)),  # type: ignore[arg-type]
    ("later_scale: expected a whole", lambda pipe: pipe.blend(CAT, CAT, later_scale=1.5)),  # type: ignore[arg-type]
    ("prompts: expected texts", lambda pipe: pipe.blend(CAT, None, later_scale=1)),  # type: ignore[arg-type]
    ("model: expected a path", lambda pipe: InfinityPipeline.from_pretrained(None)),  # type: ignore[arg-type]
    ("adapter: expected a path", lambda pipe: pipe.load_lora_weights(None)),  # type: ignore[arg-type]
    ("adapters: expected pairs", lambda pipe: pipe.set_adapters("adapter")),  # type: ignore[arg-type]
    ("adapters: expected pairs", lambda pipe: pipe.set_adapters(["adapter"])),  # type: ignore[list-item]
    ("watermark: expected a BitWatermark", lambda pipe: setattr(pipe, "watermark", "a key of the tests")),
    ("output_type: expected pil, np or pt, got 'latent'", lambda pipe: pipe(CAT, output_type="latent")),  # type: ignore[arg-type]
    ("output_type: expected pil", lambda pipe: pipe.edit(PICTURE, MASK, CAT, output_type=["pil"])),  # type: ignore[arg-type]
    ("progress: expected a function", lambda pipe: pipe(CAT, progress=3)),  # type: ignore[arg-type]
    ("guidance_scale: expected a number below", lambda pipe: pipe(CAT, guidance_scale=10**400)),
    ("temperature: expected a number below", lambda pipe: pipe(CAT, temperature=[1, 1, 1, 10**400])),
    ("height: expected a number below", lambda pipe: pipe(CAT, height=10**400, width=1)),
    ("image: expected a picture with pixels", lambda pipe: pipe.outpaint(Image.new("RGB", (0, 5)), CAT, 2.0)),
    ("image: expected a picture with pixels", lambda pipe: pipe.vary(Image.new("L", (0, 0)), CAT, keep_scales=1)),
    ("mask: expected a picture with pixels", lambda pipe: pipe.edit(PICTURE, Image.new("RGBA", (5, 0)), CAT)),
    ("image: expected a picture that can be", lambda pipe: pipe.edit(damaged("RGB"), MASK, CAT)),
    ("mask: expected a picture that can be", lambda pipe: pipe.edit(PICTURE, damaged("RGBA"), CAT)),
    ("image: expected a picture that can be", lambda pipe: pipe.outpaint(closed(), CAT, 2.0)),
    ("mask: expected a picture that can be", lambda pipe: pipe.edit(PICTURE, closed(), CAT)),
    ("covered: expected a number", lambda pipe: pipe.edit(PICTURE, MASK, CAT, covered="x")),  # type: ignore[arg-type]
    ("sampling: expected a SamplingConfig", lambda pipe: pipe.vary(PICTURE, CAT, keep_scales=1, sampling={"a": 1})),  # type: ignore[arg-type]
    ("sampling: expected a SamplingConfig", lambda pipe: pipe.blend(CAT, CAT, later_scale=1, sampling=3)),  # type: ignore[arg-type]
    ("sampling: expected a SamplingConfig", lambda pipe: pipe.outpaint(PICTURE, CAT, 2.0, sampling="x")),  # type: ignore[arg-type]
    ("device: expected cpu", lambda pipe: InfinityPipeline.from_pretrained(pipe.model, device="")),
    ("search: expected a SearchConfig and a function", lambda pipe: search(pipe, CAT, None)),  # type: ignore[arg-type]
    ("search: expected a SearchConfig and a function", lambda pipe: search(pipe, CAT, BRIGHT, config=4)),  # type: ignore[arg-type]
    ("seed: expected a whole", lambda pipe: search(pipe, CAT, BRIGHT, seed="x")),  # type: ignore[arg-type]
    ("aspect_ratio: expected a number", lambda pipe: search(pipe, CAT, BRIGHT, aspect_ratio="x")),  # type: ignore[arg-type]
    ("batch_size: expected at least 1", lambda pipe: search(pipe, CAT, BRIGHT, batch_size=0)),
    ("one finite number per picture", lambda pipe: search(pipe, CAT, lambda pictures, _: None)),  # type: ignore[arg-type,return-value]
    ("one finite number per picture", lambda pipe: search(pipe, CAT, lambda pictures, _: ["x"] * len(pictures))),  # type: ignore[arg-type]
    ("one finite number per picture", lambda pipe: search(pipe, CAT, lambda pictures, _: np.ones((len(pictures), 2)))),
]


@pytest.mark.parametrize(("message", "call"), REFUSED)
def test_what_is_of_another_type_is_one_sentence(
    pipe: InfinityPipeline, message: str, call: Callable[[InfinityPipeline], Any]
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call(pipe)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), "0.5", None, True, 1j])
def test_a_scale_that_is_no_finite_number_changes_nothing(pipe: InfinityPipeline, adapter: Path, scale: Any) -> None:
    before = pipe(CAT, output_type="pt").bits.bits_BLC
    with pytest.raises(AdapterError, match="finite number as its scale"):
        pipe.set_adapters([(str(adapter), scale)])
    assert pipe.adapters == ()
    assert torch.equal(pipe(CAT, output_type="pt").bits.bits_BLC, before)


def test_adapters_never_change_during_a_drawing(pipe: InfinityPipeline, adapter: Path) -> None:
    def bits() -> torch.Tensor:
        return pipe(CAT, output_type="pt").bits.bits_BLC

    plain = bits()
    pipe.load_lora_weights(adapter)  # type: ignore[arg-type]  # a Path is fine too
    adapted = bits()
    assert not torch.equal(plain, adapted)
    pipe.unload_lora_weights()
    swapper = threading.Thread(target=lambda: pipe.load_lora_weights(str(adapter)))

    def swap_now(preview: object) -> None:
        if not swapper.ident:
            swapper.start()
            swapper.join(0.2)

    during = pipe(CAT, output_type="pt", callback_on_scale=swap_now)
    swapper.join()
    assert torch.equal(during.bits.bits_BLC, plain)
    assert during.settings[0].adapters == ()
    assert torch.equal(bits(), adapted)
    pipe.unload_lora_weights()


def test_no_callback_changes_the_model_that_a_picture_is_drawn_with(pipe: InfinityPipeline, adapter: Path) -> None:
    mark = BitWatermark(WatermarkKey(b"k" * 40))
    plain = pipe(CAT)
    changes: dict[str, Callable[[], object]] = {
        "adapters": lambda: pipe.load_lora_weights(str(adapter)),
        "adapters: cannot": pipe.unload_lora_weights,
        "watermark": lambda: setattr(pipe, "watermark", mark),
        "device": lambda: pipe.to("cpu"),
    }
    for what, change in changes.items():
        for call in (
            lambda change=change: pipe(CAT, callback_on_scale=lambda _: change()),
            lambda change=change: pipe.edit(plain, np.ones((8, 8), bool), CAT, callback_on_scale=lambda _: change()),
        ):
            with pytest.raises(ValueError, match=rf"{what}.*by a callback of a drawing"):
                call()
    again = pipe(CAT, callback_on_scale=lambda _: pipe("another"))  # drawing is no change
    assert np.array_equal(again.pixels(), plain.pixels())
    assert again.settings == plain.settings
    pipe.load_lora_weights(str(adapter))  # a drawing that was refused holds nothing back
    pipe.unload_lora_weights()


@pytest.mark.parametrize("seed", [2**64, -(2**64), [2**70], 2**64 - 1])
def test_a_seed_is_one_that_the_file_of_a_picture_can_hold(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"seed: expected one number or .* of at most 64 bits"):
        picture_seeds([CAT] * (1 if isinstance(seed, list) else 2), seed)
    assert picture_seeds([CAT], 2**64 - 1) == [2**64 - 1]


def test_more_pictures_than_a_call_can_hold_are_refused(pipe: InfinityPipeline) -> None:
    with pytest.raises(ValueError, match="num_images_per_prompt: expected at most 100,000, got 1,000,000,000"):
        pipe(CAT, num_images_per_prompt=10**9)
    with pytest.raises(ValueError, match="num_images: expected at most 100,000"):
        pipe.vary(PICTURE, CAT, keep_scales=1, num_images=100_001)


def test_a_folder_to_save_in_may_be_a_path(pipe: InfinityPipeline, tmp_path: Path) -> None:
    assert pipe.save_pretrained(tmp_path / "copy") == str(tmp_path / "copy")
    assert (tmp_path / "copy" / "COMMITTED").exists()
    for wrong in (3, None):
        with pytest.raises(ValueError, match="folder: expected a path"):
            pipe.save_pretrained(wrong)
    for none in (None, 3):
        with pytest.raises(ValueError, match="adapters: expected pairs"):
            pipe.set_adapters(none)


def test_a_canvas_of_nearly_the_shape_of_the_picture_is_one_sentence(pipe: InfinityPipeline) -> None:
    with pytest.raises(ValueError, match="aspect_ratio: the picture nearly has the shape 1 already"):
        pipe.outpaint(Image.new("RGB", (240, 239)), CAT, 1.0)


LEFT = np.arange(24) < 12
LAYERS = {
    "hole": np.where(LEFT[:, None], [255, 255, 255, 0], [255, 255, 255, 255]),
    "hole in black": np.where(LEFT[:, None], [0, 0, 0, 0], [0, 0, 0, 255]),
    "hole in a picture": np.where(LEFT[:, None], [9, 200, 90, 30], [200, 250, 30, 255]),
    "opaque": np.where(LEFT[:, None], [255, 255, 255, 255], [0, 0, 0, 255]),
    "brush": np.where(LEFT[:, None], [0, 0, 0, 0], [255, 255, 255, 255]),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_with_transparency_means_the_same_to_python_the_command_line_and_the_server(
    pipe: InfinityPipeline, tmp_path: Path, name: str, mode: str
) -> None:
    picture = Image.fromarray(np.broadcast_to(LAYERS[name], (24, 24, 4)).astype(np.uint8), "RGBA").convert(mode)
    picture.save(tmp_path / "mask.png")
    expected = np.broadcast_to(LEFT, (24, 24))
    assert np.array_equal(mask_of((tmp_path / "mask.png").read_bytes()), expected)
    assert np.array_equal(pixel_mask(picture, (24, 24)).numpy(), expected)
    assert np.array_equal(pixel_mask(Image.open(tmp_path / "mask.png"), (24, 24)).numpy(), expected)


def test_a_mask_as_an_array_of_its_pixels_marks_what_the_picture_marks() -> None:
    soft = Image.fromarray(np.array([[0, 3, 100, 127, 128, 200, 255]], np.uint8))
    expected = [[False, False, False, False, True, True, True]]
    for mask in (soft, np.asarray(soft), np.asarray(soft, np.float32) / 255, np.asarray(soft, np.float64)):
        assert pixel_mask(mask, (1, 7)).tolist() == expected
    assert pixel_mask(np.asarray(soft)[:, ::-1], (1, 7)).tolist() == [expected[0][::-1]]
    assert pixel_mask(np.array([[0, 1, 2, -1]]), (1, 4)).tolist() == [[False, True, True, False]]
    assert pixel_mask(np.array([[0, 1]], np.uint8), (1, 2)).tolist() == [[False, True]]


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_picture_from_a_phone_is_edited_upright_by_python_too(
    pipe: InfinityPipeline, tmp_path: Path, orientation: int
) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 20, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "phone.png", exif=exif)
    by_file = source_of(pipe, (tmp_path / "phone.png").read_bytes(), where="phone.png")
    by_python = pipe.source(Image.open(tmp_path / "phone.png"))
    assert by_python.aspect_ratio == by_file.aspect_ratio
    assert torch.equal(by_python.labels.bits_BLC, by_file.labels.bits_BLC)
    mask = Image.fromarray((np.arange(20) < 10)[None].repeat(40, 0))
    turned = Image.open(_png_of(mask.convert("L"), exif))
    data = _png_of(mask.convert("L"), exif).getvalue()
    assert np.array_equal(pixel_mask(turned, mask_of(data).shape).numpy(), mask_of(data))


def _png_of(picture: Image.Image, exif: Image.Exif) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, "PNG", exif=exif)
    return file


def test_a_refused_call_draws_nothing(pipe: InfinityPipeline) -> None:
    seen: list[object] = []
    for wrong in ({"output_type": "latent"}, {"progress": 3}, {"output_type": None}):
        with pytest.raises(ValueError, match="expected"):
            pipe(CAT, callback_on_scale=seen.append, **wrong)  # type: ignore[arg-type]
    assert seen == []


@pytest.mark.parametrize(
    "kind",
    [
        "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32",
        "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2",
    ],
)  # fmt: skip
def test_a_mask_of_any_kind_of_number_marks_the_same_pixels(kind: str) -> None:
    marked = torch.tensor([[0, 1, 0, 1]])
    expected = marked.bool().tolist()
    if hasattr(np, kind):
        assert pixel_mask(marked.numpy().astype(kind), (1, 4)).tolist() == expected
    assert pixel_mask(marked.to(getattr(torch, kind)), (1, 4)).tolist() == expected
    largest = np.full((1, 4), np.iinfo(kind).max, kind) if "int" in kind else np.ones((1, 4))
    assert pixel_mask(largest, (1, 4)).all()


def test_masks_of_other_layouts_are_masks_and_complex_ones_are_one_sentence() -> None:
    assert pixel_mask(torch.eye(4).to_sparse(), (4, 4)).tolist() == torch.eye(4).bool().tolist()
    assert pixel_mask(torch.eye(4).requires_grad_(), (4, 4)).tolist() == torch.eye(4).bool().tolist()
    with pytest.raises(ValueError, match="mask: expected truth values or real numbers, found complex"):
        pixel_mask(np.ones((4, 4), complex), (4, 4))
    with pytest.raises(ValueError, match="mask: expected a PIL picture, an array or a tensor"):
        pixel_mask(torch.ones(4, 4, device="meta"), (4, 4))
    with pytest.raises(ValueError, match="found NaN"):
        pixel_mask(torch.tensor([[float("nan")]]).to(torch.float8_e5m2), (1, 1))


def test_masks_of_16_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 300, 32000, 33500, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "mask.png")
    expected = [[False, False, False, True, True]]
    assert pixel_mask(Image.open(tmp_path / "mask.png"), (1, 5)).tolist() == expected
    assert mask_of((tmp_path / "mask.png").read_bytes()).tolist() == expected


def test_helpers_say_what_was_expected() -> None:
    assert aspect_ratio_of(np.int64(30), np.float32(30), None) == 1.0  # type: ignore[arg-type]
    assert whole_number("n", np.int8(3)) == 3
    assert place_text("model", Path("a/b")) == "a/b"
    for wrong in (b"a", None, 3):
        with pytest.raises(ValueError, match="model: expected a path"):
            place_text("model", wrong)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("auto", None), ("bfloat16", True), (torch.bfloat16, True), ("float32", False), (torch.float32, False)],
)
def test_a_data_type_is_bfloat16_or_not_or_left_to_the_device(dtype: Any, expected: bool | None) -> None:
    assert is_bfloat16(dtype) is expected


def test_less_work_is_asked_for_in_any_kind_of_list(pipe: InfinityPipeline) -> None:
    depth = pipe.pipeline.transformer.config.depth
    first = pipe("a red circle", pruned=0.5, cache_share=0.5)
    again = pipe("a red circle", pruned=np.array([0.5]), cache_share=[0.5] * depth)
    assert torch.equal(first.bits.bits_BLC, again.bits.bits_BLC)
    assert [(each.settings[0].pruned, each.settings[0].cache_share) for each in (first, again)] == [
        ((0.5,), 0.5), ((0.5,), (0.5,) * depth),
    ]  # fmt: skip
    wrong: tuple[dict[str, Any], ...] = ({"pruned": 1.0}, {"cache_share": 0}, {"pruned": "a"})
    for arguments in wrong:
        with pytest.raises(ValueError, match=next(iter(arguments))):
            pipe("a red circle", **arguments)
