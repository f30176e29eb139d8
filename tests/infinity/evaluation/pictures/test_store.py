"""Drawings are found again under all that they depend on, and never overwritten."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infinity.evaluation.fid.inception import InceptionFeatures
from infinity.evaluation.fid.preparation import PREPARATIONS
from infinity.evaluation.fid.reference_sets import ReferenceSet, measure
from infinity.evaluation.pictures.store import Drawing, PictureError, PictureStore, decode_picture, read_picture
from infinity.evaluation.prompts.benchmark import PromptItem, in_store
from infinity.evaluation.prompts.parts import draw_parts
from infinity.generation.sampling import SamplingConfig


def store(folder: object, **changes: object) -> PictureStore:
    settings = {"model_digest": "m" * 64, "sampling": SamplingConfig(), "device": "cpu", **changes}
    return PictureStore(str(folder), **settings)  # type: ignore[arg-type]


def picture(value: int) -> np.ndarray:
    return np.full((4, 5, 3), value, np.uint8)


def test_a_drawing_comes_back_and_the_first_one_stays(tmp_path: Path) -> None:
    kept, drawing = store(tmp_path), Drawing("a red cup", 3)
    kept.write(drawing, picture(7))
    kept.write(drawing, picture(8))
    np.testing.assert_array_equal(kept.read(drawing), picture(7))
    assert kept.present() == {kept.key(drawing)}


def test_everything_that_a_picture_depends_on_is_in_its_name(tmp_path: Path) -> None:
    base, drawing = store(tmp_path), Drawing("a", 0)
    keys = {
        base.key(drawing), base.key(Drawing("b", 0)), base.key(Drawing("a", 1)), base.key(Drawing("a", 0, 2.0)),
        store(tmp_path, model_digest="n" * 64).key(drawing), store(tmp_path, device="cuda").key(drawing),
        store(tmp_path, sampling=SamplingConfig(guidance=2.0)).key(drawing),
    }  # fmt: skip
    assert len(keys) == 7
    assert store("elsewhere").key(drawing) == base.key(drawing)


def test_works_in_a_bucket(s3_server: str) -> None:
    kept, drawing = store(f"{s3_server}/pictures"), Drawing("a", 0)
    assert kept.present() == frozenset()
    kept.write(drawing, picture(1))
    kept.write(drawing, picture(2))
    assert kept.present() == {kept.key(drawing)}
    np.testing.assert_array_equal(kept.read(drawing), picture(1))


def test_only_batches_with_a_gap_are_drawn_and_they_stay_the_same_batches(tmp_path: Path) -> None:
    kept = store(tmp_path)
    wanted = [Drawing(f"prompt {number}", 0) for number in (1, 2, 3, 2, 4, 5)]
    whole = draw_parts(kept, wanted, 2)
    assert [len(part.drawings) for part in whole] == [2, 2, 1]
    for drawing in (wanted[0], wanted[2], wanted[4]):
        kept.write(drawing, picture(0))
    assert draw_parts(kept, wanted, 2) == [whole[0], whole[2]]


def test_a_drawing_that_is_gone_or_damaged_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    kept, drawing = store(tmp_path), Drawing("a", 0)
    sample = in_store(kept, PromptItem(id="1", prompt="a"), "a", (drawing,))
    with pytest.raises(PictureError, match="found none; run the evaluation again"):
        sample.pictures()
    kept.write(drawing, picture(0))
    Path(kept.uri(drawing)).write_bytes(b"\x89PNG broken")
    with pytest.raises(PictureError, match=r"damaged file .*; delete it and run the evaluation again"):
        sample.pictures()


def strange_pictures() -> dict[str, Image.Image]:
    """Forms in which tools that say ``convert("RGB")`` and ours could differ."""
    random = np.random.default_rng(9)
    rgba = Image.fromarray(random.integers(0, 256, (9, 7, 4), dtype=np.uint8), "RGBA")
    grey = Image.fromarray(random.integers(0, 256, (9, 7), dtype=np.uint8), "L")
    faint = grey.copy()
    faint.putalpha(grey.rotate(180))
    palette = rgba.convert("RGB").quantize(8)
    palette.info["transparency"] = 3
    deep = Image.fromarray(random.integers(0, 2**16, (9, 7), dtype=np.uint16))
    return {"rgba": rgba, "la": faint, "palette": palette, "deep": deep, "one": grey.convert("1"), "grey": grey}


@pytest.mark.parametrize("form", sorted(strange_pictures()))
def test_everything_that_is_scored_is_read_as_convert_rgb_gives_it(form: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    strange_pictures()[form].save(path, **({"transparency": 3} if form == "palette" else {}))
    wanted = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(read_picture(str(path)), wanted)
    rows: list[torch.Tensor] = []

    def network(images: torch.Tensor) -> InceptionFeatures:
        rows.append(images.clone())
        features = images.flatten(1)[:, :64]
        return InceptionFeatures(features, features, features, features, features, features)

    (tmp_path / "b.png").write_bytes(path.read_bytes())
    measure(ReferenceSet(uri=str(tmp_path), feature=64), network)
    prepared = PREPARATIONS["tf1"](torch.from_numpy(wanted[None].copy()))
    torch.testing.assert_close(rows[0][:1], prepared, rtol=0, atol=0)


def test_the_tools_for_fid_do_not_follow_the_orientation_and_the_scorer_of_geneval_does(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.png", exif=exif)
    data = (tmp_path / "a.png").read_bytes()
    assert read_picture(str(tmp_path / "a.png")).shape == (5, 4, 3)
    assert decode_picture(data, "a", upright=False).shape == (4, 5, 3)


def test_a_form_that_pillow_does_not_decode_is_named_with_its_remedy_unless_its_name_is_wrong() -> None:
    with pytest.raises(PictureError, match=r"^a\.JXL: expected a picture that Pillow decodes, found \.jxl; convert it"):
        decode_picture(b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "a.JXL")
    data = io.BytesIO()
    Image.new("RGB", (2, 2), (1, 2, 3)).save(data, "PNG")
    assert decode_picture(data.getvalue(), "really-a-png.heic").max() == 3
