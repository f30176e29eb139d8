"""The process of a submitted job ends in a sentence where its spec cannot be read, before any cluster is asked."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from infinity.jobs.submission.entry import main
from infinity.jobs.submission.files import NOT_SEEN


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"kind": "none", "spec": {}}', b'{"kind": 7}', b"\xff\xfe\x00", b"[" * 10**5],
)
def test_a_damaged_spec_is_one_sentence_and_a_code_of_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    file = tmp_path / "submitted.json"
    file.write_bytes(content)
    with caplog.at_level(logging.INFO):
        assert main([str(file), "mark"]) == 1
    (record,) = caplog.records
    assert record.getMessage().startswith("error: ")
    assert str(file) in record.getMessage()
    assert "\n" not in record.getMessage()
    assert record.exc_info is None


def test_a_spec_that_is_not_visible_here_is_told_by_a_code_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main([str(tmp_path / "none.json"), "mark"]) == NOT_SEEN
    assert "there is no such file" in caplog.text
