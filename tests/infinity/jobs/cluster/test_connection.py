"""A connection to Ray starts and stops only what is its own."""

import tempfile
from pathlib import Path

import pytest

from infinity.jobs.cluster.connection import MAX_FOLDER_LENGTH, connect, short_temporary_folder


@pytest.mark.ray
def test_a_connected_process_stays_connected_after_the_block(local_ray: None) -> None:
    import ray

    before = ray.get_runtime_context().get_node_id()
    with connect():
        assert ray.get_runtime_context().get_node_id() == before
    assert ray.is_initialized()


def test_the_folder_of_ray_is_short_even_where_temporary_folders_lie_deep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    folder = short_temporary_folder()
    assert folder.is_dir()
    assert len(str(folder)) <= MAX_FOLDER_LENGTH
    folder.rmdir()
