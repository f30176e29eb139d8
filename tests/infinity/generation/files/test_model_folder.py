"""The folder of a run stands for its last model wherever a model is asked for."""

import json
from pathlib import Path

import pytest

from infinity.generation.files.model_folder import ModelNotFoundError, of_run


def test_a_run_stands_for_its_last_model_and_other_places_for_themselves(tmp_path: Path) -> None:
    run, model = tmp_path / "run", tmp_path / "run/transformer-1/model"
    model.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"evaluation": {"model": str(model)}}))
    with pytest.raises(ModelNotFoundError, match="has no trained model yet"):
        of_run(str(run))
    (model / "COMMITTED").write_text("0" * 16)
    assert of_run(str(run)) == of_run(str(model)) == str(model)
    assert of_run(str(tmp_path / "gone")) == str(tmp_path / "gone")
    (run / "COMMITTED").write_text("1" * 16)  # a model folder beside the plan of a run
    assert of_run(str(run)) == str(run)
