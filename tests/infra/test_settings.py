"""Settings come from the environment, and nothing else."""

import pytest
from pydantic import ValidationError

from infra.settings import REPOSITORY, Settings

NAMES = ("INFINITY_RUNS", "RAY_ADDRESS", "PREFECT_API_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_every_setting_is_explained_for_people() -> None:
    page = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    names = [str(name) for field in Settings.model_fields.values() for name in field.validation_alias.choices]  # type: ignore[union-attr]
    assert len(names) > 20
    assert [name for name in names if name.startswith("INFINITY_") and f"`{name}`" not in page] == []


def test_without_variables_everything_is_local() -> None:
    settings = Settings()
    assert (settings.runs, settings.ray_address, settings.s3_endpoint, settings.prefect_api_url) == (
        "runs",
        None,
        None,
        None,
    )


def test_standard_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000/")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api/")
    monkeypatch.setenv("INFINITY_RUNS", "s3://bucket/runs")
    settings = Settings()
    assert settings.ray_address == "10.0.0.1:6379"
    assert settings.s3_endpoint == "http://127.0.0.1:9000"
    assert settings.prefect_api_url == "http://127.0.0.1:4200/api"
    assert settings.runs == "s3://bucket/runs"


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert Settings().ray_address is None


def test_an_address_that_is_no_api_is_refused_with_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "127.0.0.1:4200")
    with pytest.raises(ValidationError, match=r"expected something like http://127\.0\.0\.1:4200/api"):
        Settings()
