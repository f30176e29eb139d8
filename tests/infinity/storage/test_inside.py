"""A place is inside where its links lead, not where its name says."""

import os
from pathlib import Path

import pytest

from infinity import storage


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("in/x", True),
        ("in/absent/../x", True),
        ("in", True),
        ("in/../in/x", True),
        ("in-beside/x", False),
        ("in/../x", False),
        ("in/out/x", False),
        ("in/file", False),
        ("link/x", True),
        ("x", False),
        ("", False),
    ],
)
def test_paths_are_judged_by_where_they_lead(tmp_path: Path, place: str, expected: bool) -> None:
    for name in ("in", "in-beside", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "x").write_bytes(b"")
    os.symlink("../elsewhere", tmp_path / "in" / "out")
    os.symlink("../x", tmp_path / "in" / "file")
    os.symlink("in", tmp_path / "link")
    test = storage.inside([str(tmp_path / "in")])
    assert test(f"{tmp_path}/{place}") is expected
    assert test((tmp_path / place).as_uri().replace("/..", "/%2e%2e")) is expected
    assert storage.inside([str(tmp_path / "link")])(f"{tmp_path}/{place}") is expected


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://bucket/in/x", True),
        ("S3://bucket/in/x", True),
        ("s3://bucket/in", True),
        ("s3://bucket/in-beside/x", False),
        ("s3://bucket/x", False),
        ("s3://bucket/in/../x", False),
        ("s3://bucket/in/a/../x", False),
        ("s3://other/in/x", False),
        ("s3://", False),
        ("/in/x", False),
        ("file:///in/x", False),
        ("http://bucket/in/x", False),
        ("gopher://bucket/in/x", False),
    ],
)
def test_keys_are_judged_by_bucket_and_prefix(place: str, expected: bool) -> None:
    assert storage.inside(["s3://bucket/in/"])(place) is expected
