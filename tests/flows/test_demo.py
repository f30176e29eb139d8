"""The demo's command line: names of runs, errors in one sentence, and the words at the end."""

from pathlib import Path

import pytest

from flows import demo
from infra.environment import free_port
from infra.settings import settings


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (None, "demo"),
        ("/data/noto_emoji", "noto_emoji"),
        ("/data/noto_emoji/", "noto_emoji"),
        ("s3://bucket/my pictures", "my-pictures"),
        ("toy/captions.jsonl", "captions"),
        ("/", "pictures"),
    ],
)
def test_a_run_is_named_after_its_pictures(data: str | None, name: str) -> None:
    assert demo._run_name(data) == name


def test_a_server_that_does_not_answer_ends_the_demo_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    settings.cache_clear()
    try:
        assert demo.main(["--run", "nothing"]) == 1
    finally:
        settings.cache_clear()
    said = capsys.readouterr()
    assert "error: nobody answers at PREFECT_API_URL" in said.err
    assert "Traceback" not in said.err
