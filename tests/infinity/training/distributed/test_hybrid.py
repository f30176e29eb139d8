"""Copies of sharded weights (HSDP), gradients that are summed once, weights that stay gathered: the same training."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp._fully_shard import _fsdp_param_group

from infinity.checkpoint import load_checkpoint
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.distributed.sharding import shard
from tests.fixtures.data.training_pictures import make_data
from tests.fixtures.jobs.process_groups import work_together
from tests.fixtures.jobs.training_sessions import LOOP, make_tokenizer, train_here, transformer_spec
from tests.fixtures.models.tiny_transformer import random_transformer

CLOSE = 1e-5
LAST = f"step-{LOOP.num_steps:08d}"
MIDDLE = "step-00000003"
pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")  # nothing changes its views in place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The states of one process with 4, 5 and 7 micro-batches, and then of two and of four workers."""
    folder = tmp_path_factory.mktemp("hybrid")
    make_tokenizer(folder / "data", make_data(folder / "data"))
    for parts in (4, 5, 7):
        train_here(spec_of(folder, parts), saves=folder / f"alone-{parts}")
    four = {
        "two-by-two": (spec_of(folder, 5, 4, shard_among=2), None),
        "two-by-two after one": (spec_of(folder, 5, 4, shard_among=2), "alone-5"),
        "both": (spec_of(folder, 7, 4, sum_once=True, shard_among=2, keep_gathered=True), None),
    }
    two = {
        "two after two-by-two": (spec_of(folder, 5, 2), "two-by-two"),
        "each-4": (spec_of(folder, 4, 2), None),
        "once-4": (spec_of(folder, 4, 2, sum_once=True), None),
        "once-5": (spec_of(folder, 5, 2, sum_once=True), None),
        "kept-4": (spec_of(folder, 4, 2, keep_gathered=True), None),
        "each-2": (spec_of(folder, 2, 2), None),
        "once-2": (spec_of(folder, 2, 2, sum_once=True), None),
    }
    for size, runs in ((4, four), (2, two)):
        work_together(size, lambda group, runs=runs: _train_all(folder, runs, group), folder / f"meeting-{size}")  # type: ignore[misc]
    train_here(
        spec_of(folder, 5), saves=folder / "one after two-by-two", resume=folder / "two-by-two" / MIDDLE
    )  # fmt: skip
    return folder


def spec_of(
    folder: Path, parts: int, size: int = 1, *, sum_once: bool = False, **workers: object
) -> TrainTransformerSpec:
    """A training of so many micro-batches and workers."""
    data = str(folder / "data" / "manifest.parquet"), str(folder / "data" / "tokenizer")
    return transformer_spec(
        folder,
        *data,
        loop=LOOP.replace(num_parts=parts, sum_once=sum_once),
        workers=WorkersConfig(num_workers=size, threads=1, shard=size > 1, **workers),  # type: ignore[arg-type]
    )


def _train_all(folder: Path, runs: dict[str, tuple[TrainTransformerSpec, str | None]], group: ProcessGroup) -> None:
    """Train one after the other, and count calls between the workers."""
    for name, (spec, resume) in runs.items():
        calls: Counter[str] = Counter()
        sums, gathers = _fsdp_param_group.foreach_reduce, _fsdp_param_group.foreach_all_gather

        def counting(what: str, call: Any, calls: Counter[str] = calls) -> Any:
            def counted(*args: Any, **options: Any) -> Any:
                calls[what] += 1
                return call(*args, **options)

            return counted

        with (
            patch.object(_fsdp_param_group, "foreach_reduce", counting("sums", sums)),
            patch.object(_fsdp_param_group, "foreach_all_gather", counting("gathers", gathers)),
        ):
            place = None if resume is None else folder / resume / MIDDLE
            train_here(spec, saves=folder / name, resume=place, group=group)
        if group.leads:
            (folder / f"{name}.json").write_text(json.dumps(calls))


def difference(folder: Path, name: str, other: str) -> float:
    """The largest of all weights, averages and moments."""
    mine, theirs = (load_checkpoint(str(folder / each / LAST)).tensors for each in (name, other))
    assert mine.keys() == theirs.keys()
    return max(float((value.double() - theirs[each].double()).abs().max()) for each, value in mine.items())


def calls_of(folder: Path, name: str) -> dict[str, int]:
    found: dict[str, int] = json.loads((folder / f"{name}.json").read_text())
    return found


def test_two_copies_of_weights_that_two_share_are_trained_like_one(folder: Path) -> None:
    """Of four workers each holds half of the rows; a state of theirs has every row once."""
    assert difference(folder, "two-by-two", "alone-5") < CLOSE
    sizes = [path.stat().st_size for path in (folder / "two-by-two" / LAST).glob("*.safetensors")]
    whole = (folder / "alone-5" / LAST / "model.safetensors").stat().st_size
    assert len(sizes) == 4
    assert sum(sizes) < 1.5 * whole, "rows were stored more than once"


@pytest.mark.parametrize("name", ["two-by-two after one", "two after two-by-two", "one after two-by-two"])
def test_a_state_goes_on_in_another_layout(folder: Path, name: str) -> None:
    assert difference(folder, name, "alone-5") < CLOSE


@pytest.mark.parametrize("parts", [4, 5])
def test_gradients_that_are_summed_once_give_the_same_training(folder: Path, parts: int) -> None:
    """Of five parts one worker has three, and the other two and a blank one."""
    assert difference(folder, f"once-{parts}", f"alone-{parts}") < CLOSE


def test_all_switches_together(folder: Path) -> None:
    assert difference(folder, "both", "alone-7") < CLOSE


def test_what_makes_the_same_sums_gives_equal_bits(folder: Path) -> None:
    """With one part per worker there is one sum either way; where gathered weights stay has no effect."""
    assert difference(folder, "once-2", "each-2") == 0.0
    assert difference(folder, "kept-4", "each-4") == 0.0


def test_summing_once_and_keeping_save_calls_between_workers(folder: Path) -> None:
    """Of two parts per worker one is summed; kept weights are gathered once per part, not twice."""
    each, once, kept = (calls_of(folder, name) for name in ("each-4", "once-4", "kept-4"))
    assert each["sums"] == 2 * once["sums"] > 0
    assert kept["gathers"] < each["gathers"] == once["gathers"]
    assert kept["sums"] == each["sums"]


def _gathered_units(group: ProcessGroup) -> None:
    model = random_transformer()
    shard(model, group, torch.device("cpu"), among=1)
    assert sum(isinstance(module, FSDPModule) for module in model.modules()) > 10
    with pytest.raises(ValueError, match="2 workers cannot be divided into groups of 4"):
        shard(random_transformer(), group, torch.device("cpu"), among=4)


def test_a_group_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    work_together(2, _gathered_units, tmp_path / "meeting")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_workers": 4, "shard_among": 2}, "set shard too"),
        ({"num_workers": 4, "keep_gathered": True}, "set shard too"),
        ({"num_workers": 4, "shard": True, "shard_among": 3}, "a divisor of num_workers, which is 4, got 3"),
        ({"num_workers": 4, "shard": True, "shard_among": 2, "min_workers": 2}, "none, or num_workers"),
        ({"shard": True, "offload": True, "keep_gathered": True}, "expected false with offload"),
    ],
)
def test_layouts_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorkersConfig(**settings)  # type: ignore[arg-type]


def test_whole_gradients_of_offloaded_weights_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"loop\.sum_once: expected false with workers\.offload"):
        spec_of(folder, 2, 2, sum_once=True, offload=True)


def test_new_switches_change_no_earlier_digest(folder: Path) -> None:
    spec = spec_of(folder, 4, 4)
    assert not {"shard_among", "keep_gathered"} & spec.workers.identity().keys()
    assert "sum_once" not in spec.loop.identity()
    assert spec.workers.sharers == 4
    assert spec.workers.replace(shard_among=2).sharers == 2
    assert spec.workers.replace(shard_among=2).unsharded().sharers == 1
