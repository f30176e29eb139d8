"""Pictures in tar shards: each once and in order; damage is an error that names the shard."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from infinity.evaluation.fid.reference_sets import ReferenceSet
from infinity.evaluation.pictures.shards import count_pictures, is_shard, read_pictures
from infinity.evaluation.pictures.store import PictureError


def write_shard(path: Path, names: list[str], *, mode: str = "w") -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for place, name in enumerate(names):
            content = io.BytesIO()
            Image.new("RGB", (5, 4), (place, 0, 0)).save(content, "PNG")
            data = content.getvalue() if name.lower().endswith("png") else b"words"
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(("ending", "mode"), [("tar", "w"), ("TAR", "w"), ("tar.gz", "w:gz"), ("tgz", "w:gz")])
def test_every_picture_is_read_once_and_texts_are_not(tmp_path: Path, ending: str, mode: str) -> None:
    first = write_shard(tmp_path / f"000.{ending}", ["a.png", "a.txt", "b/c.PNG", "._a.png"], mode=mode)
    second = write_shard(tmp_path / "001.tar", ["d.png"])
    shards = [str(first), str(second)]
    assert is_shard(shards[0])
    assert count_pictures(shards) == 3
    assert [name.rsplit("/", 1)[-1] for name, _ in read_pictures(shards)] == ["a.png", "c.PNG", "d.png"]
    assert all(Image.open(io.BytesIO(data)).size == (5, 4) for _, data in read_pictures(shards))


def test_a_set_is_a_folder_of_shards_or_one_shard_and_never_a_mixture(tmp_path: Path) -> None:
    write_shard(tmp_path / "set/1.tar", ["a.png", "b.png"])
    one = write_shard(tmp_path / "set/0.tar", ["c.png", "d.png", "d.json"])
    folder = ReferenceSet(uri=str(tmp_path / "set")).files()
    assert folder.number == 4
    assert [name.rsplit("/", 1)[-1] for name, _ in folder.read()] == ["c.png", "d.png", "a.png", "b.png"]
    assert ReferenceSet(uri=str(one)).files().number == 2
    Image.new("RGB", (5, 4)).save(tmp_path / "set/e.png")
    with pytest.raises(ValueError, match="either pictures or shards"):
        ReferenceSet(uri=str(tmp_path / "set")).files()


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "0.tar", ["a.png", "b.png"])
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(PictureError, match=r"0\.tar: expected a tar file of pictures"):
        count_pictures([str(shard)])
