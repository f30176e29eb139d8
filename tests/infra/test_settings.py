"""Settings come from the environment, and nothing else."""

import pytest
from pydantic import ValidationError

from infra.settings import PREFIX, REPOSITORY, Settings, SettingsError, settings

NAMES = ("INFINITY_RUNS", "RAY_ADDRESS", "PREFECT_API_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_every_setting_is_explained_for_people() -> None:
    page = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    names = [f"{PREFIX}{name.upper()}" for name, field in Settings.model_fields.items() if not field.validation_alias]
    assert len(names) > 10
    assert [name for name in [*names, "INFINITY_DATABASE"] if f"`{name}`" not in page] == []


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


def test_a_variable_of_another_program_is_no_setting_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Settings()
    for name, field in Settings.model_fields.items():  # DATABASE, STATE and the like are set on many machines
        if name.upper() != field.validation_alias:
            monkeypatch.setenv(name.upper(), "5")
    assert Settings() == before


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("INFINITY_FILES_PORT", "99999", "less than or equal to 65535"),
        ("INFINITY_RAY_NUM_CPUS", "many", "a valid integer"),
        ("INFINITY_LOG_FORMAT", "yaml", "'text' or 'json'"),
        ("INFINITY_PRICE_CPU_HOUR", "nan", "a finite number"),
        ("PREFECT_API_URL", "127.0.0.1:4200", "something like http://127.0.0.1:4200/api"),
    ],
)
def test_a_wrong_variable_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        settings.__wrapped__()
    assert str(caught.value).startswith(f"{variable}: expected {expected}")
    assert str(caught.value).endswith(f", found {value!r}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["INFINITY_PRICE_CPU_HOUR", "INFINITY_PRICE_GPU_HOUR", "INFINITY_SERVER_PATIENCE_S"])
@pytest.mark.parametrize("value", ["inf", "nan", "-1", "1e999", "cheap"])
def test_prices_and_times_are_finite_numbers(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=rf"^{name}: expected .*, found '{value}'$"):
        settings.__wrapped__()


def test_each_wrong_variable_is_a_sentence_with_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("INFINITY_FILES_PORT", "0"), ("PREFECT_API_URL", "here"), ("INFINITY_LOG_FORMAT", "xml")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        settings.__wrapped__()
    found = sorted(str(error.value).split("; "))
    assert [sentence.partition(":")[0] for sentence in found] == [
        "INFINITY_FILES_PORT", "INFINITY_LOG_FORMAT", "PREFECT_API_URL",
    ]  # fmt: skip
    assert "expected greater than or equal to 1, found '0'" in found[0]
