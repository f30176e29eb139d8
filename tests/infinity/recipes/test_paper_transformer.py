"""The paper's three stages say what the paper says."""

from itertools import pairwise

import pytest

from infinity.recipes.paper_transformer import TransformerInputs, paper_stages
from infinity.training.distributed.parallel import ProcessGroup

INPUTS = TransformerInputs(manifests=("m",), tokenizer="t", output="o")


def test_stages_have_the_papers_numbers_and_follow_each_other() -> None:
    specs = paper_stages(INPUTS)
    assert [(s.resolution.size, s.loop.num_steps, s.loop.batch_size) for s in specs] == [
        ("256", 150_000, 4096),
        ("512", 110_000, 4096),
        ("1024", 60_000, 2048),
    ]
    assert [spec.optimizer.learning_rate for spec in specs] == [6e-5, 6e-5, 2e-5]
    for spec in specs:
        optimizer = spec.optimizer
        assert (optimizer.betas, optimizer.weight_decay, optimizer.clip_norm) == ((0.9, 0.97), 0.005, 5.0)
        assert (optimizer.decay, optimizer.warmup_steps) == ("constant", 0)
        assert spec.self_correction == 0.3
    assert [spec.loop.batch_size // spec.loop.num_parts for spec in specs] == [64, 16, 4]
    assert specs[0].start_from is None
    for before, after in pairwise(specs):
        assert after.start_from == f"{before.folder}/model"


def test_a_data_set_of_its_own_for_every_stage() -> None:
    specs = paper_stages(INPUTS.replace(manifests=("a", "b", "c")))
    assert [spec.manifest for spec in specs] == ["a", "b", "c"]


@pytest.mark.parametrize("size", [1, 3, 6, 7, 10, 12, 24, 48, 64, 100, 1000, 2048])
def test_any_number_of_workers_gets_specs_in_which_all_make_equally_many_passes(size: int) -> None:
    for spec in paper_stages(INPUTS.replace(num_workers=size)):
        assert type(spec).parse(spec.dump()) == spec
        groups = [ProcessGroup(rank, size) for rank in range(size)]
        assert {len(group.passes(spec.loop.num_parts)) for group in groups} == {-(-spec.loop.num_parts // size)}
        assert min(len(group.micro_batches(spec.loop.num_parts)) for group in groups) >= 1
    if size <= 64:
        for spec, usual in zip(paper_stages(INPUTS.replace(num_workers=size)), paper_stages(INPUTS), strict=True):
            assert spec.loop == usual.loop, "another number of workers trains the same model"


@pytest.mark.parametrize("part_size", [1, 4, 32])
def test_a_size_of_micro_batches_holds_for_all_stages(part_size: int) -> None:
    for spec in paper_stages(INPUTS.replace(part_size=part_size)):
        assert spec.loop.batch_size == part_size * spec.loop.num_parts


@pytest.mark.parametrize(
    "change", [{"manifests": ("a", "b")}, {"num_workers": 0}, {"part_size": 0}, {"num_workers": 2049}]
)
def test_wrong_inputs_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        INPUTS.replace(**change)
