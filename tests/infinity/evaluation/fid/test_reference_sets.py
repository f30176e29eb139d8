"""Statistics of a set: whatever the batches, from files or a data set, with a passport; and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.batches import load_images
from infinity.evaluation.fid.frechet import GaussianStats
from infinity.evaluation.fid.inception import InceptionFeatures
from infinity.evaluation.fid.preparation import PREPARATIONS
from infinity.evaluation.fid.reference_sets import ReferenceSet, measure
from infinity.evaluation.fid.reference_statistics import StatisticsFile, read_statistics, write_statistics
from infinity.evaluation.pictures.store import PictureError
from infinity.evaluation.prompts.benchmark import PictureFolder
from infinity.storage.pinned import PinnedFile
from tests.fixtures.data.small_world import write_data


def small_network(images: torch.Tensor) -> InceptionFeatures:
    """Mean colours of places as features of the widths that are asked for."""
    assert images.shape[1:] == (3, 299, 299)
    features = F.adaptive_avg_pool2d(images[:, :1], (8, 8)).flatten(1)
    return InceptionFeatures(features, features.repeat(1, 3), features, features, features, features)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for number, (height, width) in enumerate(((20, 30), (16, 16), (40, 24), (31, 17), (20, 20))):
        path = tmp_path / "set" / f"{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
    (tmp_path / "set" / "notes.md").write_text("no picture")
    return tmp_path / "set"


def test_batches_change_nothing_and_the_file_reads_back(folder: Path, tmp_path: Path) -> None:
    reference = ReferenceSet(uri=str(folder), feature=64)
    heard: list[float] = []
    found = [measure(reference, small_network, batch_size=size, progress=heard.append) for size in (1, 2, 5, 99)]
    rows = [
        small_network(PREPARATIONS["tf1"](torch.from_numpy(np.array(Image.open(path))[None]))).features_64
        for path in sorted(folder.rglob("*.png"), key=str)
    ]
    wanted = GaussianStats.of(torch.cat(rows)).moments()
    for stats, provenance in found:
        assert stats.count == 5
        torch.testing.assert_close(stats.moments().mean, wanted.mean)
        torch.testing.assert_close(stats.moments().covariance, wanted.covariance)
        assert provenance == found[0][1]
    assert heard[0] == 0.2
    assert heard[-1] == 1.0
    write_statistics(str(tmp_path / "a.npz"), *found[0])
    back = read_statistics(StatisticsFile(file=PinnedFile(uri=str(tmp_path / "a.npz"))))
    assert back.moments.count == 5
    assert back.provenance == found[0][1]
    assert back.provenance.source.startswith("set: 5 pictures as they are, content ")


def test_a_data_set_is_read_by_split_and_fitted_as_a_model_sees_it(tmp_path: Path) -> None:
    manifest = Manifest.load(write_data(tmp_path / "data", num_train=3, num_validation=4))
    for uri in (manifest.uri, str(tmp_path / "data")):
        stats, provenance = measure(ReferenceSet(uri=uri, size_px=16, feature=192), small_network)
        images = load_images(manifest, manifest.rows("validation"), (16, 16))
        wanted = small_network(PREPARATIONS["tf1"](torch.from_numpy(images))).features_192
        torch.testing.assert_close(stats.moments().mean, GaussianStats.of(wanted).moments().mean)
        assert "4 pictures with the middle scaled to 16 x 16 px" in provenance.source
    assert measure(ReferenceSet(uri=manifest.uri, split="train", feature=64), small_network)[0].count == 3


def test_other_content_size_or_convention_is_another_passport(folder: Path) -> None:
    reference = ReferenceSet(uri=str(folder), feature=64)
    provenances = [measure(reference, small_network)[1]]
    for changes in ({"size_px": 8}, {"convention": "clean_fid"}):
        provenances.append(measure(reference.replace(**changes), small_network)[1])
    picture = np.array(Image.open(folder / "0/0.png"))
    picture[0, 0, 0] ^= 1
    Image.fromarray(picture).save(folder / "0/0.png")
    provenances.append(measure(reference, small_network)[1])
    assert len(set(provenances)) == 4


def test_few_damaged_and_unknown_pictures_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one/a.png").write_bytes((folder / "0/0.png").read_bytes())
    with pytest.raises(ValueError, match=r"at least 2 pictures \(.*files\), found 1"):
        ReferenceSet(uri=str(tmp_path / "one")).files()
    (folder / "0/9.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"0/9\.png: expected a picture, found a damaged file"):
        measure(ReferenceSet(uri=str(folder), feature=64), small_network)
    with pytest.raises(ValueError, match="expected one of"):
        ReferenceSet(uri="x", feature=65)
    with pytest.raises(ValueError, match="at least 1"):
        ReferenceSet(uri="x", size_px=0)


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints/0-checkpoint.png", "0/.thumbs/0.png", "@eaDir/0.png"])
def test_pictures_in_hidden_folders_are_no_part_of_a_set(
    folder: Path, hidden: str, caplog: pytest.LogCaptureFixture
) -> None:
    reference, scored = ReferenceSet(uri=str(folder)), PictureFolder(uri=str(folder))
    number, content, files = reference.files().number, reference.content(), scored.files()
    (folder / hidden).parent.mkdir(parents=True, exist_ok=True)
    (folder / hidden).write_bytes((folder / "0/0.png").read_bytes())
    assert (reference.files().number, reference.content()) == (number, content)
    assert scored.files() == files
    assert caplog.text.count("1 pictures in hidden folders are not read") == 1


def test_pictures_are_read_as_rgb(tmp_path: Path) -> None:
    for number, mode in enumerate(("L", "RGBA", "P", "LA")):
        content = io.BytesIO()
        Image.new(mode, (9, 9)).save(content, "PNG")
        (tmp_path / f"{number}.png").write_bytes(content.getvalue())
    assert measure(ReferenceSet(uri=str(tmp_path), feature=64), small_network)[0].count == 4
