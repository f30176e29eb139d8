"""A training over two data sets with weights: stopped at any step, it ends with the same weights."""

from pathlib import Path

import torch

from infinity.data.loading.mixture import SetConfig, ShareConfig
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.jobs.training_sessions import LOOP, tokenizer_spec, train_here


def test_a_training_over_two_sets_resumed_at_every_step_ends_the_same(tmp_path: Path) -> None:
    first, second = make_data(tmp_path / "a"), make_data(tmp_path / "b", num_train=9)
    spec = tokenizer_spec(
        tmp_path / "out",
        first,
        share=ShareConfig(weight=1, trigger="sks"),
        sets=(SetConfig(manifest=second, share=ShareConfig(weight=2)),),
        loop=LOOP.replace(num_steps=4, log_every_steps=4, save_every_steps=1, sample_every_steps=4),
    )
    assert TrainTokenizerSpec.parse(spec.dump()) == spec
    whole = train_here(spec, saves=tmp_path / "saves").task.module.state_dict()
    for step in (1, 2, 3):
        again = train_here(spec, resume=tmp_path / "saves" / f"step-{step:08d}").task.module.state_dict()
        assert all(torch.equal(value, again[name]) for name, value in whole.items()), step


def test_a_training_over_one_set_as_it_is_keeps_its_name(tmp_path: Path) -> None:
    spec = tokenizer_spec(tmp_path, "/sets/manifest.parquet")
    assert "sets" not in spec.identity()
    assert "share" not in spec.identity()
    more = spec.replace(sets=(SetConfig(manifest="/other/manifest.parquet"),))
    assert more.digest() != spec.digest() != spec.replace(share=ShareConfig(trigger="sks")).digest()
