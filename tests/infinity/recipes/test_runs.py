"""Recipes: five specs that fit together, whatever is trained on."""

from pathlib import Path

import pytest
from PIL import Image

from infinity import storage
from infinity.recipes.runs import RECIPES, EndToEnd, RecipeName, end_to_end
from infinity.tokenizer.tokenizer import Tokenizer
from infinity.transformer.model import Transformer


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_stage_reads_what_the_stage_before_it_writes(recipe: RecipeName, tmp_path: Path) -> None:
    run = end_to_end(recipe, source=None, output=str(tmp_path))
    manifest = storage.join(run.dataset.folder, "manifest.parquet")
    assert {run.tokenizer.manifest, run.pretrain.manifest, run.finetune.manifest, run.evaluation.manifest} == {manifest}
    assert run.pretrain.tokenizer == run.finetune.tokenizer == storage.join(run.tokenizer.folder, "model")
    assert run.pretrain.start_from is None
    assert run.finetune.start_from == storage.join(run.pretrain.folder, "model")
    assert run.evaluation.model == storage.join(run.finetune.folder, "model")


@pytest.mark.parametrize("recipe", RECIPES)
def test_shapes_fit_the_pictures(recipe: RecipeName, tmp_path: Path) -> None:
    run = end_to_end(recipe, source=None, output=str(tmp_path))
    assert run.dataset.scenes is not None
    size_px = run.dataset.scenes.size_px
    schedule = run.tokenizer.resolution.schedule(1.0)
    assert schedule.image_size_px(run.tokenizer.model.stride_px) == (size_px, size_px)
    assert run.pretrain.model == run.finetune.model
    assert run.pretrain.model.num_bits == run.tokenizer.model.token_bits
    assert run.pretrain.resolution == run.tokenizer.resolution
    Tokenizer(run.tokenizer.model)
    Transformer(run.pretrain.model)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_survives_json_and_asks_for_the_same_folders_again(recipe: RecipeName, tmp_path: Path) -> None:
    run = end_to_end(recipe, source=None, output=str(tmp_path))
    assert EndToEnd.from_json(run.to_json()) == run == end_to_end(recipe, source=None, output=str(tmp_path))


def test_pictures_of_ones_own_are_not_judged_by_the_shapes_of_scenes(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a black square"}\n', encoding="utf-8")
    run = end_to_end("demo", source=str(tmp_path), output=str(tmp_path / "runs"))
    assert run.dataset.scenes is None
    assert run.dataset.fingerprint
    assert run.evaluation.scenes is None


def test_demo_scores_at_least_120_captions_with_four_pictures_each(tmp_path: Path) -> None:
    scenes = end_to_end("demo", source=None, output=str(tmp_path)).evaluation.scenes
    assert scenes is not None
    assert scenes.prompts_per_task is None
    assert scenes.pictures_per_prompt == 4


def test_an_unknown_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="demo, emoji, mini"):
        end_to_end("huge", source=None, output=str(tmp_path))  # type: ignore[arg-type]
