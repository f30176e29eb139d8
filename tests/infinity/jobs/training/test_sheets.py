"""The report of a training names its own sheets of samples, whatever else a person has put beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from infinity.jobs.training.driver import _sheets


@pytest.mark.parametrize("stranger", ["step-00000010 copy.png", "step-.png", "step-1e3.png", "Thumbs.db", "notes.txt"])
def test_a_file_of_a_stranger_among_the_samples_ends_no_training(tmp_path: Path, stranger: str) -> None:
    (tmp_path / "samples").mkdir()
    for name in ("step-00000010.png", "step-00000030.png", stranger):
        (tmp_path / "samples" / name).write_bytes(b"")
    (sheet,) = _sheets(str(tmp_path), 20, ("a cat",))
    assert (sheet.title, sheet.captions) == ("step 10", ("a cat",))
    assert sheet.image.endswith("step-00000010.png")
