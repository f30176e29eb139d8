"""The transformer's training as a job: inputs that fit each other, and a model folder that draws."""

from pathlib import Path

import pytest
import torch

from infinity import storage
from infinity.checkpoint import CheckpointError
from infinity.generation.pipeline import Pipeline, load_transformer
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.training import transformer as train_transformer
from infinity.text import BuiltinTextConfig
from infinity.tokenizer.saved import load_tokenizer, save_tokenizer
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.state import generator_for
from tests.fixtures.data.training_pictures import TEXT, TRANSFORMER, make_data
from tests.fixtures.jobs.training_sessions import LOOP, make_tokenizer, train_here, transformer_spec

TWO = WorkersConfig(num_workers=2, threads=1, max_failures=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A manifest and a tokenizer."""
    folder = tmp_path_factory.mktemp("data")
    manifest = make_data(folder)
    return manifest, make_tokenizer(folder, manifest, num_steps=10)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, data: tuple[str, str]) -> str:
    """A model folder."""
    folder = tmp_path_factory.mktemp("model")
    train_here(transformer_spec(folder, *data, loop=LOOP.replace(num_steps=2))).export(str(folder / "model"))
    return str(folder / "model")


def test_a_spec_comes_back_from_json(data: tuple[str, str]) -> None:
    spec = transformer_spec("/a", *data)
    assert train_transformer.TrainTransformerSpec.parse(spec.dump()) == spec


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_train_in_a_bucket_and_the_model_folder_draws(
    local_ray: None, s3_server: str, data: tuple[str, str]
) -> None:
    loop = LOOP.replace(num_steps=4, save_every_steps=2, sample_every_steps=2)
    spec = transformer_spec(s3_server, *data, workers=TWO, loop=loop.replace(num_parts=2))
    report = train_transformer.run(spec)
    assert report.model == storage.join(spec.folder, "model")
    drawn = Pipeline.load(report.model).generate(["a red square", "a green square"])
    assert drawn.images_BHW3.shape == (2, 16, 16, 3)
    assert [sheet.title for sheet in report.training.samples] == ["step 2", "step 4"]
    assert report.training.samples[0].captions == spec.prompts
    assert storage.read_bytes(report.training.samples[0].image).startswith(b"\x89PNG")
    assert report.training.final["bit_accuracy"] > 0.4
    assert train_transformer.run(spec) == report


def test_finetuning_starts_from_the_given_weights(tmp_path: Path, data: tuple[str, str], model: str) -> None:
    spec = transformer_spec(tmp_path, *data, start_from=model, stage="finetune", model=TRANSFORMER.replace(drop_path=0))
    train_transformer.check(spec)
    made = train_transformer.build(spec, ProcessGroup(), torch.device("cpu"), lambda _s, _m: None)
    for name, value in load_transformer(model)[1].state_dict().items():
        assert torch.equal(value, made.task.module.state_dict()[name])


def test_a_tokenizer_of_another_bit_width_is_refused(tmp_path: Path, data: tuple[str, str]) -> None:
    spec = transformer_spec(tmp_path, *data, model=TRANSFORMER.replace(num_bits=6))
    with pytest.raises(ValueError, match="has 8 bits per token, the transformer would predict 6"):
        train_transformer.run(spec)


def test_a_start_of_another_shape_is_refused(tmp_path: Path, data: tuple[str, str], model: str) -> None:
    spec = transformer_spec(tmp_path, *data, start_from=model, model=TRANSFORMER.replace(depth=3))
    with pytest.raises(ValueError, match="depth is 2 there and 3 here"):
        train_transformer.run(spec)


def test_a_start_with_another_tokenizer_is_refused(tmp_path: Path, data: tuple[str, str], model: str) -> None:
    other = load_tokenizer(data[1])
    other.init_weights(generator_for(9, "weights"))
    save_tokenizer(str(tmp_path / "other"), other)
    spec = transformer_spec(tmp_path, data[0], str(tmp_path / "other"), start_from=model)
    with pytest.raises(ValueError, match="the bits of one mean nothing to the other"):
        train_transformer.run(spec)


def test_a_start_with_another_text_encoder_is_refused(tmp_path: Path, data: tuple[str, str], model: str) -> None:
    spec = transformer_spec(tmp_path, *data, start_from=model, text=BuiltinTextConfig(**{**TEXT.to_json(), "seed": 77}))
    with pytest.raises(ValueError, match="trained with another text encoder"):
        train_transformer.run(spec)


def test_a_start_that_is_a_tokenizer_or_unfinished_is_refused(
    tmp_path: Path, data: tuple[str, str], model: str
) -> None:
    with pytest.raises(CheckpointError, match="kind 'transformer', found 'tokenizer'"):
        train_transformer.run(transformer_spec(tmp_path, *data, start_from=data[1]))
    storage.download_folder(model, tmp_path / "copy")
    (tmp_path / "copy" / "COMMITTED").unlink()
    with pytest.raises(CheckpointError, match="no finished checkpoint"):
        train_transformer.run(transformer_spec(tmp_path, *data, start_from=str(tmp_path / "copy")))


def test_text_that_does_not_fit_the_transformer_is_refused_when_the_spec_is_made(data: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="reads 64 channels, the text encoder gives 32"):
        transformer_spec("/a", *data, model=TRANSFORMER.replace(text_channels=64))
    with pytest.raises(ValueError, match="captions of at most 8 tokens"):
        transformer_spec("/a", *data, model=TRANSFORMER.replace(max_text_tokens=8))
