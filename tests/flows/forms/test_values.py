"""Boxes of the forms: what they say of the value they have where they are empty, and what a server takes for them."""

from __future__ import annotations

import importlib
from typing import Any, get_args

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from flows.forms.form import Form
from flows.forms.parameters import DatasetForm, EvaluationForm, FinetuneForm, PretrainForm, TokenizerForm
from flows.forms.values import PATHS, StageName, empty_means, value_at
from infinity.recipes.runs import RECIPES, EndToEnd, end_to_end

FORMS: dict[StageName, type[Form]] = {
    "dataset": DatasetForm, "tokenizer": TokenizerForm, "pretrain": PretrainForm, "finetune": FinetuneForm,
    "evaluation": EvaluationForm,
}  # fmt: skip
OTHER: dict[str, Any] = {
    "duplicates": "keep", "min_english": 0.25, "max_elongation": 2.5, "width": 64, "num_parts": 4, "batch_size": 4,
    "store_side_px": 48, "num_workers": 3, "min_workers": 1,
}  # fmt: skip
"""Values for boxes that not any number fits."""
NAMES_SOMETHING = {
    "dataset": {
        "near_duplicates", "filter_set", "captioner", "evaluation_prompts", "name", "parent", "allow_hosts",
        "image_column", "caption_column", "long_caption_column", "url_column", "roots", "settings",
    },
    "tokenizer": {"settings"}, "pretrain": {"settings", "stored"}, "finetune": {"settings", "stored", "adapter_base"},
    "evaluation": {
        "geneval", "dpg", "clip_score", "image_reward", "hps", "hps3", "pick_score", "diversity", "judge",
        "text_rendering", "cmmd", "fd_dinov2", "inception_uri", "inception_sha256",
    },
}  # fmt: skip
"""Boxes without a path: they name files and networks, or several settings at once."""


@pytest.fixture(scope="module")
def plan() -> EndToEnd:
    return end_to_end("mini", source=None, output="/runs/mini")


def flow(
    dataset: DatasetForm = DatasetForm(),  # noqa: B008
    tokenizer: TokenizerForm = TokenizerForm(),  # noqa: B008
    pretrain: PretrainForm = PretrainForm(),  # noqa: B008
    finetune: FinetuneForm = FinetuneForm(),  # noqa: B008
    evaluation: EvaluationForm = EvaluationForm(),  # noqa: B008
) -> None:
    """Stand for a flow with all forms."""


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    found: dict[str, Any] = parameter_schema(flow).model_dump_for_openapi()
    return found


def boxes(schema: dict[str, Any], stage: StageName) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = schema["definitions"][FORMS[stage].__name__]["properties"]
    return found


def other(form: type[Form], box: str, before: Any) -> Any:
    if box in OTHER:
        return OTHER[box]
    if isinstance(before, bool):
        return not before
    whole = int in get_args(form.model_fields[box].annotation) or "int" in str(form.model_fields[box].annotation)
    return 13 if whole else 0.35


@pytest.mark.parametrize(("stage", "box"), [(stage, box) for stage, paths in PATHS.items() for box in paths])
def test_a_box_changes_the_value_that_its_empty_one_is_said_to_have(plan: EndToEnd, stage: StageName, box: str) -> None:
    spec, path, form = getattr(plan, stage), PATHS[stage][box], FORMS[stage]
    wanted = other(form, box, value_at(spec, path))
    assert value_at(spec, path) != wanted
    assert value_at(form(**{box: wanted}).change(spec), path) == wanted  # type: ignore[attr-defined]


@pytest.mark.parametrize("stage", list(FORMS))
def test_every_box_has_a_value_or_names_something(stage: StageName) -> None:
    assert set(FORMS[stage].model_fields) == set(PATHS[stage]) | NAMES_SOMETHING[stage]


def test_a_page_says_what_each_recipe_has(schema: dict[str, Any]) -> None:
    steps = boxes(schema, "tokenizer")["num_steps"]["description"]
    for recipe in RECIPES:
        number = end_to_end(recipe, source=None, output="/o").tokenizer.loop.num_steps
        assert f"{number} ({recipe})" in steps
    assert boxes(schema, "pretrain")["seed"]["description"].endswith("Empty: 0.")
    assert boxes(schema, "dataset")["min_sharpness"]["description"].endswith("Empty: no value.")
    assert boxes(schema, "evaluation")["use_gpu"]["description"].endswith("Empty: no.")
    assert empty_means("dataset", "captioner") == ""


@pytest.mark.parametrize("stage", list(FORMS))
def test_an_empty_box_is_one_box_and_not_a_choice_of_none(schema: dict[str, Any], stage: StageName) -> None:
    """What stays a choice is a form within the form, or settings by path."""
    for name, box in boxes(schema, stage).items():
        if "anyOf" in box:
            kinds = [kind for kind in box["anyOf"] if kind.get("type") != "null"]
            assert all("$ref" in kind or kind["type"] == "object" for kind in kinds), name
        else:
            assert "default" not in box, name
            assert box.get("type") != "boolean", f"{name}: a switch would be off where nobody touched it"
    assert schema["properties"][stage]["default"] == {}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"pretrain": {}},
        {"pretrain": {"num_steps": None, "use_gpu": None, "settings": None, "shard": True}},
        {"pretrain": dict.fromkeys(PretrainForm.model_fields)},
        {"evaluation": dict.fromkeys(EvaluationForm.model_fields)},
        {"dataset": dict.fromkeys(DatasetForm.model_fields)},
        {"dataset": {"duplicates": "keep", "near_duplicates": False, "allow_hosts": ["a", "b"], "min_english": 0}},
        {"evaluation": {"geneval": {"detector": "scenes"}, "hps": {}}},
    ],
)
def test_a_server_takes_what_earlier_runs_and_people_give(schema: dict[str, Any], given: dict[str, Any]) -> None:
    """Runs of an earlier version have a null for each empty box; they can be started again."""
    assert validate(given, schema) == []
    for stage, values in given.items():
        FORMS[stage](**values)  # type: ignore[index]


@pytest.mark.parametrize(
    "given",
    [
        {"pretrain": {"num_steps": 0}},
        {"pretrain": {"num_steps": "many"}},
        {"pretrain": {"use_gpu": "yes"}},
        {"pretrain": {"steps": 5}},
        {"dataset": {"duplicates": "all"}},
        {"evaluation": {"nucleus": 1.5}},
    ],
)
def test_a_server_still_refuses_what_no_box_may_hold(schema: dict[str, Any], given: dict[str, Any]) -> None:
    assert validate(given, schema)


def test_an_empty_form_is_nothing_and_a_filled_one_what_was_filled_in() -> None:
    assert EvaluationForm().model_dump() == {}
    form = PretrainForm(num_steps=3, use_gpu=False)
    assert form.model_dump() == {"num_steps": 3, "use_gpu": False}
    assert PretrainForm.model_validate_json(form.model_dump_json()) == form


FLOWS = (
    "build_dataset", "end_to_end", "evaluate", "finetune", "fleet", "pretrain", "savings", "study", "sweep",
    "train_tokenizer",
)  # fmt: skip


@pytest.mark.parametrize("name", FLOWS)
def test_no_page_begins_with_boxes_that_say_none_and_a_null_is_taken(name: str) -> None:
    """Prefect's page writes "Property is type None" where a box is null; older runs and commands have such values."""
    found = getattr(importlib.import_module(f"flows.{name}"), name)
    schema = parameter_schema(found).model_dump_for_openapi()
    boxes = {box: said for box, said in schema["properties"].items() if "anyOf" in said}
    assert all(said["default"] is not None for said in boxes.values())
    for value in (None, *(said["default"] for said in boxes.values())):
        given = {box: value if value is None else said["default"] for box, said in boxes.items()}
        assert not validate(given, schema, preprocess=True)
        assert found.validate_parameters(given) is not None
