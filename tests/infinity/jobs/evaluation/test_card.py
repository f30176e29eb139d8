"""A model's card says what the records say, and the same records give the same bytes."""

import json
from pathlib import Path

import pytest
import torch

from infinity.generation.files.model_folder import ModelNotFoundError, model_folder
from infinity.generation.pipeline import save_model
from infinity.jobs.evaluation.card import gather
from infinity.jobs.evaluation.spec import EvaluateReport
from infinity.reporting.scores.card import write_card
from infinity.tokenizer.saved import save_tokenizer
from infinity.tokenizer.tokenizer import Tokenizer
from infinity.transformer import Transformer
from tests.fixtures.data.small_world import RESOLUTION, TEXT, TOKENIZER, TRANSFORMER, write_data
from tests.fixtures.jobs.evaluations import prompts, write_evaluation


def write_training(run: Path, job: str, manifest: str, settings: dict[str, object]) -> None:
    """Records of a training as the job leaves them."""
    folder = run / job
    folder.mkdir(parents=True, exist_ok=True)
    spec = {"manifest": manifest, "a_setting_of_old_times": 3, **settings}
    (folder / "spec.json").write_text(json.dumps({"kind": job.split("-")[0], "spec": spec}))
    training = {
        "stage": job, "title": f"Training of {job}", "metrics": "m", "final": {"loss": 0.25}, "samples": [],
        "num_parameters": 1234, "num_steps": 40,
    }  # fmt: skip
    (folder / "report.json").write_text(json.dumps({"model": str(folder / "model"), "training": training}))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A tokenizer, a pretrained and a finetuned model with their records, and an evaluation of the last."""
    run = tmp_path / "run"
    manifest = write_data(run / "dataset-1")
    tokenizer = Tokenizer(TOKENIZER)
    tokenizer.init_weights(torch.Generator().manual_seed(0))
    save_tokenizer(str(run / "tokenizer-1" / "model"), tokenizer)
    write_training(run, "tokenizer-1", manifest, {})
    transformer = Transformer(TRANSFORMER)
    transformer.init_weights(torch.Generator().manual_seed(1))
    evaluated = write_evaluation(run, "2", prompts(3, 0.5))
    digest = save_model(
        str(run / "transformer-2" / "model"),
        transformer,
        text=TEXT,
        resolution=RESOLUTION,
        tokenizer_uri=str(run / "tokenizer-1" / "model"),
    )
    report = Path(evaluated.folder, "report.json")
    report.write_text(evaluated.report.replace(model_digest=digest).dump())
    write_training(run, "transformer-1", manifest, {"tokenizer": str(run / "tokenizer-1" / "model")})
    write_training(
        run,
        "transformer-2",
        manifest,
        {"tokenizer": str(run / "tokenizer-1" / "model"), "start_from": str(run / "transformer-1" / "model")},
    )
    (run / "run.json").write_text(json.dumps({"evaluation": {"model": str(run / "transformer-2" / "model")}}))
    return run


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_card_tells_data_trainings_scores_with_passports_and_samples(run: Path, tmp_path: Path) -> None:
    card = gather(str(run))
    assert [training.title for training in card.trainings] == [
        "Training of tokenizer-1", "Training of transformer-1", "Training of transformer-2"
    ]  # fmt: skip
    files = write_card(card, str(tmp_path / "card"))
    for text in (Path(files.markdown).read_text(), Path(files.html).read_text()):
        for words in (card.digest, "dataset-1/manifest.parquet", card.data[0].sha256, "1,234", "scene-geneval/1"):
            assert words in text
        assert "not measured" in text
        assert "a_setting_of_old_times" in text
    assert "a \\<star\\> \\| \\*" in Path(files.markdown).read_text()
    assert "![Samples](pictures/1-sheet.png)" in Path(files.markdown).read_text()
    assert (tmp_path / "card" / "pictures" / "1-sheet.png").is_file()
    assert "a &lt;star&gt; | *" in Path(files.html).read_text()


def test_writing_it_again_changes_no_byte(run: Path, tmp_path: Path) -> None:
    write_card(gather(str(run)), str(tmp_path / "card"))
    before = files_of(tmp_path / "card")
    for path in run.rglob("*"):
        path.touch()
    write_card(gather(str(run / "transformer-2" / "model")), str(tmp_path / "card"))
    assert files_of(tmp_path / "card") == before
    assert set(before) == {"README.md", "card.html", "pictures/1-sheet.png"}


def test_an_evaluation_of_other_weights_is_not_on_the_card(run: Path) -> None:
    report = next(run.glob("evaluation-*/report.json"))
    report.write_text(EvaluateReport.parse(report.read_text()).replace(model_digest="0" * 16).dump())
    assert gather(str(run)).evaluations == ()


def test_missing_records_are_gaps_and_no_error(run: Path, tmp_path: Path) -> None:
    (run / "dataset-1" / "manifest.parquet").unlink()
    assert "not there any more" in gather(str(run)).gaps[0]
    alone = tmp_path / "elsewhere" / "model"
    (run / "transformer-2" / "model").rename(alone.parent.mkdir() or alone)
    card = gather(str(alone))
    assert card.trainings == ()
    assert card.gaps == ("No record of its training lies beside it.",)
    text = Path(write_card(card, str(tmp_path / "card")).markdown).read_text()
    assert "There is no record of its training." in text


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="expected a model folder"):
        model_folder(str(tmp_path))
    (tmp_path / "run.json").write_text(json.dumps({"evaluation": {"model": str(tmp_path / "none")}}))
    with pytest.raises(ModelNotFoundError, match="no trained model yet"):
        model_folder(str(tmp_path))
