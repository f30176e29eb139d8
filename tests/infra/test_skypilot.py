"""The file for SkyPilot: its form is SkyPilot's, and what it starts is a run of this tree."""

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest

from flows.forms.parameters import EvaluationForm, FinetuneForm, PretrainForm, TokenizerForm
from flows.records.plan import changed, new_plan
from infinity.recipes.runs import RECIPES
from infra.settings import REPOSITORY
from tests.infra.test_manifests import load

FORMS = {"tokenizer": TokenizerForm, "pretrain": PretrainForm, "finetune": FinetuneForm, "evaluation": EvaluationForm}


def command(gpus: int) -> list[str]:
    """The words with which the file starts the pipeline, as its shell makes them."""
    text = load("infra/skypilot.yaml")["run"]
    start = text.index("training=")
    shell = text[start:].replace("prefect deployment", "printf '%s\\0' prefect deployment")
    environment = {"SKYPILOT_NUM_GPUS_PER_NODE": str(gpus), "RUN": "mine", "DATA": "", "RECIPE": "demo"}
    done = subprocess.run(["bash", "-euc", shell], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def test_eight_gpus_fit_into_every_recipe(tmp_path: Path) -> None:
    words = command(8)
    given = dict(word.split("=", 1) for word in words if "=" in word)
    assert words[:4] == ["prefect", "deployment", "run", "end-to-end/local"]
    assert (given["run"], given["recipe"]) == ("mine", "demo")
    changes = {name: form(**json.loads(given[name])).change for name, form in FORMS.items()}
    for recipe in RECIPES:
        plan = changed(new_plan(recipe, None, str(tmp_path / recipe)), changes)
        for stage in (plan.tokenizer, plan.pretrain, plan.finetune, plan.evaluation):
            assert (stage.workers.num_workers, stage.workers.use_gpu) == (8, True)


def test_its_commands_are_there_and_no_secret_stands_in_it() -> None:
    found = load("infra/skypilot.yaml")
    assert set(found["secrets"].values()) == {None}  # given at the start
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^\s*make (\w+)$", found["setup"] + found["run"], re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert not set(found["envs"]) & set(found["secrets"])


def test_its_form_is_that_of_skypilot() -> None:
    schemas = pytest.importorskip("sky.utils.schemas", reason="the package skypilot, which has the form, is missing")
    found = load("infra/skypilot.yaml")
    for schema, part in ((schemas.get_task_schema(), found), (schemas.get_resources_schema(), found["resources"])):
        assert [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(part)] == []
