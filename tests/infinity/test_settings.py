"""Whatever a spec can say, a command line and a form can say: by path, from the spec's own definition."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from infinity.cli import app
from infinity.config import Config, ConfigError
from infinity.jobs.dataset.spec import BuildDatasetSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.settings import settings_of, with_settings
from tests.fixtures.documents import REPOSITORY

SPEC = BuildDatasetSpec(source="/pictures", output="sets")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All values of a spec by path; parts that are null have none."""
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if isinstance(inner, Config):
            yield from leaves(inner, f"{path}{field.name}.")
        else:
            yield path + field.name, inner


def test_every_value_of_a_spec_is_a_setting_with_a_meaning() -> None:
    settings = {setting.path: setting for setting in settings_of(BuildDatasetSpec)}
    parts = {path.rpartition(".")[0] for path in settings}
    assert {path for path, value in leaves(SPEC)} <= set(settings) | parts
    assert len(settings) > 60
    inherited = ("output",)
    assert [path for path, setting in settings.items() if not setting.help and path not in inherited] == []


def test_a_default_said_in_words_changes_nothing() -> None:
    values = dict(leaves(SPEC))
    said = [each for each in settings_of(BuildDatasetSpec) if each.path in values and each.default]
    assert len(said) > 50
    for setting in said:
        default = json.loads(setting.default) if setting.path != "source" else SPEC.source
        text = default if isinstance(default, str) else setting.default
        assert with_settings(SPEC, {setting.path: text}) == SPEC, setting
        assert with_settings(SPEC, {setting.path: default}) == SPEC, setting


def test_values_of_every_type_are_understood() -> None:
    changes = {
        "filters.captions.min_words": "3",
        "filters.near_duplicates.distance": "4",
        "filters.min_contrast": "null",
        "filters.duplicates": "keep",
        "aspect_ratios": "1.0,0.5",
        "download.allow_hosts": "a.example, b.example",
        "takedown.sha256": [],
        "columns.picture": "pic",
    }
    spec = with_settings(SPEC, changes)
    assert (spec.filters.captions.min_words, spec.filters.min_contrast, spec.filters.duplicates) == (3, None, "keep")
    assert spec.filters.near_duplicates is not None
    assert (spec.filters.near_duplicates.distance, spec.filters.near_duplicates.difference) == (4, 18.0)
    assert (spec.aspect_ratios, spec.download.allow_hosts) == ((1.0, 0.5), ("a.example", "b.example"))
    assert spec.columns.picture == "pic"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("filters.min_words", "3", r"no such setting; near it are .*filters\.captions\.min_words"),
        ("seed.x", "3", "seed has no settings of its own"),
        ("filters.min_side_px", "many", "expected whole number, got 'many'"),
        ("filters.min_side_px", "0", "FilterConfig.min_side_px: expected at least 1"),
        ("filters.duplicates", "some", "expected one of 'picture', 'picture_and_caption', 'keep', got 'some'"),
        ("captioner.prompt", "What?", "missing 'model'"),
    ],
)
def test_what_cannot_be_set_is_named(path: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_settings(SPEC, {path: value})


@pytest.mark.parametrize("whole", [5, [1], "7", True])
def test_a_part_is_given_as_a_whole_or_by_its_settings(whole: object) -> None:
    with pytest.raises(ConfigError, match=r"^filters\.captions\.min_words: filters is given as a whole too"):
        with_settings(SPEC, {"filters": whole, "filters.captions.min_words": 2})


def test_brackets_without_end_are_no_value() -> None:
    with pytest.raises(ConfigError, match=r"^samples_per_shard: expected whole number, got '\[\["):
        with_settings(SPEC, {"samples_per_shard": "[" * 100_000})


def test_the_command_line_lists_them_and_refuses_what_is_none() -> None:
    listed = CliRunner().invoke(app, ["data", "settings"]).output
    assert all(f"  {setting.path} (" in listed for setting in settings_of(BuildDatasetSpec))
    spec = json.loads(CliRunner().invoke(app, ["data", "settings", "--json"]).output)
    assert BuildDatasetSpec.from_json(spec).filters == SPEC.filters
    refused = CliRunner().invoke(app, ["data", "build", ".", "-o", "sets", "--set", "seed"])
    assert refused.exit_code == 1


def test_the_spec_in_the_documents_is_complete_and_has_the_defaults() -> None:
    text = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
    (block,) = (block for block in text.split("```json\n")[1:] if '"max_unreadable_share"' in block)
    assert json.loads(block.partition("```")[0]) == SPEC.to_json()


def test_a_training_can_be_given_further_data_sets_by_path() -> None:
    paths = {setting.path for setting in settings_of(TrainTransformerSpec)}
    assert {"share.trigger", "share.repeats", "sets"} <= paths
