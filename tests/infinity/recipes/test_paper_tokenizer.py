"""The published recipes are what was published, and come out of the command line as spec files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from infinity.cli import app
from infinity.jobs.registry import load_spec
from infinity.jobs.training import tokenizer as train_tokenizer
from infinity.recipes.paper_tokenizer import TokenizerInputs, tokenizer_recipe
from infinity.recipes.runs import end_to_end
from infinity.tokenizer.tokenizer import Tokenizer
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.optimizers.optimizer import learning_rate_at
from tests.fixtures.data.training_pictures import make_data

INPUTS = TokenizerInputs(manifest="/data/manifest.parquet", output="/runs")


def test_the_first_stage_is_the_published_one() -> None:
    spec = tokenizer_recipe("paper-1", INPUTS)
    assert (spec.loop.num_steps, spec.loop.batch_size, spec.loop.num_parts) == (500_000, 256, 32)
    rates = [learning_rate_at(spec.optimizer, step, spec.loop.num_steps) for step in (0, 449_999, 450_000, 499_999)]
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])
    assert (spec.optimizer.betas, spec.optimizer.clip_norm) == ((0.9, 0.95), 1.0)
    assert spec.adversarial is not None
    assert spec.adversarial.optimizer == spec.optimizer.replace(learning_rate=2e-4)
    game = spec.adversarial
    assert (game.from_step, game.weight, game.num_layers, game.base_width) == (50_000, 0.3, 3, 128)
    assert (game.norm, game.lecam, game.lecam_margin, game.lecam_decay) == ("batch", 0.05, 0.1, None)
    assert (spec.losses.keep_probability, spec.losses.l1, spec.losses.l2) == (0.5, 1.0, 0.0)
    assert [rows for rows, _ in spec.resolution.schedule(1.0).grids] == [*range(1, 17)]
    assert spec.perceptual is not None
    assert spec.perceptual.network.trunk == "vgg16"
    assert spec.start_from is None
    assert spec.model.num_bits == 32


@pytest.mark.parametrize("num_bits", [16, 24, 32, 64])
def test_terms_of_the_bits_weigh_what_was_published(num_bits: int) -> None:
    """There entropies are summed over the bits, times 0.1 / 100 and 4; the commitment is a mean, times 0.25 and 4."""
    losses = tokenizer_recipe("paper-1", INPUTS.replace(num_bits=num_bits)).losses
    per_bit = 0.37
    assert losses.certainty * per_bit == pytest.approx(4 * 0.1 * (per_bit * num_bits) / 100)
    assert (losses.balance, losses.commitment) == (losses.certainty, 1.0)


def test_the_second_stage_takes_turns_with_three_sizes() -> None:
    with pytest.raises(ValueError, match="start_from: the recipe paper-2 starts from a tokenizer, got none"):
        tokenizer_recipe("paper-2", INPUTS)
    spec = tokenizer_recipe("paper-2", INPUTS.replace(start_from="/runs/first/model", reg=True))
    assert [(turn.resolution.size, turn.batch_size) for turn in spec.mixed] == [
        ("256", 256),
        ("512", 128),
        ("1024", 64),
    ]
    assert all(turn.resolution.dense for turn in spec.mixed)
    assert (spec.loop.num_steps, spec.optimizer.drop_step) == (200_000, 150_000)
    assert spec.adversarial is not None
    assert spec.adversarial.from_step == 0
    assert spec.losses.truncated > 0
    assert train_tokenizer.TrainTokenizerSpec.parse(spec.dump()) == spec


def test_the_small_recipe_begins_on_any_pictures(tmp_path: Path) -> None:
    manifest = make_data(tmp_path / "data")
    spec = tokenizer_recipe("scenes", INPUTS.replace(manifest=manifest, num_bits=16))
    train_tokenizer.check(spec)
    made = train_tokenizer.build(spec, ProcessGroup(), torch.device("cpu"), lambda _s, _m: None)
    assert made.loader(0)[0].images_BHWC.shape[1:3] == (48, 48)
    assert isinstance(made.task.module, Tokenizer)


def test_names_of_finished_jobs_stay_with_what_came_later(tmp_path: Path) -> None:
    """The demo's tokenizer, as it was before discriminator, perceptual loss, dense grids and truncation."""
    spec = end_to_end("demo", source=None, output=str(tmp_path)).tokenizer
    said = spec.identity()
    assert not {"perceptual", "adversarial", "mixed"} & said.keys()
    assert "dense" not in said["resolution"]
    assert not {"truncated", "truncated_share"} & said["losses"].keys()
    assert "drop_step" not in said["optimizer"]
    used = spec.replace(losses=spec.losses.replace(truncated=0.5))
    assert used.digest() != spec.digest()


def test_the_command_line_writes_a_spec_that_the_jobs_read(tmp_path: Path) -> None:
    spec_file, weights = tmp_path / "spec.json", tmp_path / "vgg.pth"
    arguments = ["tokenizer-spec", "paper-1", "/data/manifest.parquet", str(spec_file), "--num-bits", "16"]
    done = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path), "--vgg", str(weights), "--reg"])
    assert done.exit_code == 0, done.output
    spec = load_spec(str(spec_file))
    assert isinstance(spec, train_tokenizer.TrainTokenizerSpec)
    assert spec.model.num_bits == 16
    assert spec.perceptual is not None
    assert spec.perceptual.network.trunk_weights is not None
    assert spec.perceptual.network.trunk_weights.uri == str(weights)
    assert spec.perceptual.network.trunk_weights.sha256 == "397923af"
    wrong = CliRunner().invoke(app, ["tokenizer-spec", "paper-3", "m", str(spec_file)])
    assert wrong.exit_code == 1
    assert "expected one of paper-1, paper-2, scenes" in wrong.output


@pytest.mark.parametrize("recipe", ["paper-1", "scenes"])
@pytest.mark.parametrize("number", [0, -1])
def test_no_workers_are_not_the_usual_number(recipe: Any, number: int) -> None:
    with pytest.raises(ValueError, match="num_workers: expected at least 1"):
        tokenizer_recipe(recipe, INPUTS.replace(num_workers=number))
