"""Pictures that are stored in a smaller size: the size that is asked for, one encoding, the same bytes each time."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infinity import storage
from infinity.data.curation.facts import measure_slice
from infinity.data.curation.storing import (
    ReducedWriter,
    StoringConfig,
    load_reduced,
    pictures_uri,
    reduce_picture,
    reduce_slice,
)
from infinity.data.dataset.manifest import Manifest
from infinity.data.images.decoding import UnreadableError, decode
from infinity.data.images.resizing import shrink
from infinity.data.sources.opening import open_source
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.dataset.build import BuildDatasetSpec, run
from tests.fixtures.data.drawn_sets import drawing
from tests.fixtures.data.pictures_on_disk import image_folder

SMALL = StoringConfig(side_px=64)


def encoded(seed: int, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    drawing(seed).save(buffer, kind)
    return buffer.getvalue()


def folder(path: Path, number: int = 6) -> Path:
    files = {f"{i}.png": encoded(i, "PNG") if i % 2 else encoded(i) for i in range(number)}
    files["small.png"] = encoded(99, "PNG")
    small = drawing(99).resize((60, 50))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    files["small.png"] = buffer.getvalue()
    return image_folder(path, files, [{"file_name": name, "text": f"a drawing {name}"} for name in files])


@pytest.mark.parametrize(
    ("size", "expected"), [((640, 480), (85, 64)), ((100, 300), (64, 192)), ((64, 900), (64, 900))]
)
def test_shorter_side_becomes_what_is_asked_for(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert SMALL.size_of(*size) == expected
    assert SMALL.reduces(*size) == (size != expected)
    assert not StoringConfig().reduces(*size)


@pytest.mark.parametrize("settings", [{"side_px": 5}, {"quality": 0}, {"quality": 101}])
def test_impossible_settings_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="StoringConfig"):
        StoringConfig(**settings)


def test_reduced_pictures_are_stored_once_encoded_and_small_ones_as_they_came(tmp_path: Path) -> None:
    source = folder(tmp_path / "source")
    spec = BuildDatasetSpec(output=str(tmp_path / "out"), source=str(source), storing=SMALL)
    with in_process():
        manifest = Manifest.load(run(spec).manifest)
    rows = manifest.table.to_pylist()
    assert len(rows) == 7
    for index, row in enumerate(rows):
        data = manifest.read_image(index)
        original = (source / row["source"]).read_bytes()
        assert storage.size(manifest.place(index)[0]) > 0
        image = Image.open(io.BytesIO(data))
        assert image.size == (row["width_px"], row["height_px"])
        if row["source"] == "small.png":
            assert data == original
            assert row["extension"] == "png"
        else:
            assert min(image.size) == 64
            assert row["extension"] == "jpg"
            before = decode(original, 10**6, side_px=SMALL.decoded_px).image
            expected = io.BytesIO()
            shrink(before, image.size, "bicubic").save(expected, "JPEG", quality=95)
            assert data == expected.getvalue()
            whole = decode(original, 10**6).image.resize(image.size, Image.Resampling.BICUBIC)
            assert np.abs(np.asarray(whole, np.int16) - np.asarray(image, np.int16)).mean() < 8
            assert row["original_sha256"] != row["sha256"]


def test_shards_are_the_same_when_the_reduced_pictures_are_gone_and_when_other_rows_are_dropped(tmp_path: Path) -> None:
    source = folder(tmp_path / "source")
    spec = BuildDatasetSpec(output=str(tmp_path / "out"), source=str(source), storing=SMALL)
    with in_process():
        first = Manifest.load(run(spec).manifest)
        storage.delete_tree(str(tmp_path / "out" / "reduced"))
        other = spec.replace(filters=spec.filters.replace(min_side_px=55))
        second = Manifest.load(run(other).manifest)
    kept = {row["source"]: row["sha256"] for row in second.table.to_pylist()}
    assert set(kept) == {row["source"] for row in first.table.to_pylist()} - {"small.png"}
    assert all(kept[row["source"]] == row["sha256"] for row in first.table.to_pylist() if row["source"] in kept)
    assert list((tmp_path / "out" / "reduced").rglob("*.pictures"))


def test_another_quality_makes_other_shards_beside_a_parent(tmp_path: Path) -> None:
    source = folder(tmp_path / "source")
    spec = BuildDatasetSpec(output=str(tmp_path / "out"), source=str(source), storing=SMALL)
    with in_process():
        parent = run(spec)
        child = spec.replace(parent=parent.manifest, source=None, storing=StoringConfig(side_px=64, quality=60))
        manifests = [Manifest.load(report.manifest) for report in (parent, run(child))]
    old, new = ({row["source"]: row for row in each.table.to_pylist()} for each in manifests)
    assert all(new[name]["num_bytes"] < old[name]["num_bytes"] for name in old if name != "small.png")
    assert all(new[name]["split"] == old[name]["split"] for name in old)


@pytest.mark.parametrize("orientation", [1, 6])
def test_large_jpeg_is_decoded_at_a_fraction_and_keeps_its_size(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    drawing(3).resize((400, 300)).save(buffer, "JPEG", exif=exif)
    picture = decode(buffer.getvalue(), 10**6, side_px=70)
    turned = orientation == 6
    assert picture.size == ((300, 400) if turned else (400, 300))
    assert picture.image.size == ((75, 100) if turned else (100, 75))
    assert decode(buffer.getvalue(), 10**6, side_px=290).image.size == picture.size
    assert picture.keep_bytes is not turned


def test_cut_jpeg_is_found_at_a_fraction_too() -> None:
    buffer = io.BytesIO()
    drawing(3).resize((400, 300)).save(buffer, "JPEG")
    with pytest.raises(UnreadableError):
        decode(buffer.getvalue()[:-400], 10**6, side_px=30)


def test_stored_settings_name_another_data_set_only_where_they_are_used(tmp_path: Path) -> None:
    spec = BuildDatasetSpec(output=str(tmp_path), source="x")
    assert "storing" not in spec.identity()
    assert spec.replace(storing=SMALL).digest() != spec.digest()


def test_reduced_pictures_of_a_measured_slice_are_those_of_the_first_pass(tmp_path: Path) -> None:
    (piece,) = open_source(str(folder(tmp_path / "source"))).slices
    uris = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    with ReducedWriter(uris[0], SMALL) as first, ReducedWriter(uris[1], SMALL) as second:
        facts = measure_slice(piece, 10**6, first).facts
        reduce_slice(piece, facts, second, 10**6)
        tables = [writer.save() for writer in (first, second)]
    assert tables[0].equals(tables[1])
    assert np.array_equal(*(np.fromfile(pictures_uri(str(tmp_path / f"{n}.parquet")), np.uint8) for n in "ab"))
    assert load_reduced(str(tmp_path / "a.parquet")).equals(tables[0])  # type: ignore[union-attr]
    Path(pictures_uri(str(tmp_path / "a.parquet"))).unlink()
    assert load_reduced(str(tmp_path / "a.parquet")) is None


def test_slice_that_fails_leaves_no_pictures(tmp_path: Path) -> None:
    def fail() -> None:
        with ReducedWriter(str(tmp_path / "a.parquet"), SMALL) as writer:
            writer.add(0, decode(encoded(1), 10**6))
            raise KeyError("a failure")

    with pytest.raises(KeyError):
        fail()
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize("failing", [".pictures", "reduced/", "facts/", "shards/index/", "manifest"])
def test_job_that_failed_while_writing_ends_with_the_same_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    source = folder(tmp_path / "source")
    quiet, shaken = (
        BuildDatasetSpec(output=str(tmp_path / name), source=str(source), storing=SMALL) for name in ("a", "b")
    )

    def unless(really: Any) -> Any:
        def write(uri: str, *args: Any, **kwargs: Any) -> Any:
            if failing in uri:
                raise storage.StorageError("no space")
            return really(uri, *args, **kwargs)

        return write

    with in_process():
        expected = Manifest.load(run(quiet).manifest)
        with monkeypatch.context() as patch:
            for name in ("write_bytes", "write_text", "create", "put_once"):
                patch.setattr(storage, name, unless(getattr(storage, name)))
            with pytest.raises(storage.StorageError):
                run(shaken)
        found = Manifest.load(run(shaken).manifest)
    assert found.head.shards == expected.head.shards
    assert found.table.equals(expected.table)


def quality_db(first: Image.Image, second: Image.Image) -> float:
    error = np.mean((np.asarray(first).astype(float) - np.asarray(second).astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def stored_quality_db(original: bytes, side_px: int) -> float:
    """Return the PSNR of the stored picture against the reduction of the fully decoded one, at the same quality."""
    config = StoringConfig(side_px=side_px)
    picture = decode(original, 10**8, side_px=config.decoded_px)
    stored = Image.open(io.BytesIO(reduce_picture(picture, config)))
    whole = shrink(decode(original, 10**8).image, stored.size, "bicubic")
    expected = io.BytesIO()
    whole.save(expected, "JPEG", quality=config.quality)
    return quality_db(stored, Image.open(expected))


@pytest.mark.sweep(8)
@pytest.mark.parametrize("side_px", [40, 64, 75, 100, 115, 130])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_pictures_equal_reductions_of_the_whole_picture(orientation: int, side_px: int) -> None:
    """Noise shows a JPEG's own scaling most; in sizes that no fraction divides, and turned by EXIF."""
    random, exif = np.random.default_rng(orientation), Image.Exif()
    exif[0x0112] = orientation
    small = Image.fromarray(random.integers(0, 256, (100, 133, 3), dtype=np.uint8))
    size, original = (393 + 7 * orientation, 305 - 5 * orientation), io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(original, "JPEG", quality=92, exif=exif)
    assert stored_quality_db(original.getvalue(), side_px) >= 39.5


@pytest.mark.parametrize("side_px", [24, 40, 64, 90])
def test_photographs_are_stored_as_reductions_of_the_whole_picture(shared: Path, side_px: int) -> None:
    photographs = sorted((shared / "data" / "infinity_toy").glob("*.jpg"))
    qualities = {path.name: stored_quality_db(path.read_bytes(), side_px) for path in photographs}
    assert len(qualities) == 10
    assert min(qualities.values()) >= 40, qualities
