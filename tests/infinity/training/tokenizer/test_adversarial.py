"""Two networks learn in one step: together or not at all, and both go on exactly where they stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from infinity.jobs.training.base import Session
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.scales import Resolution
from infinity.training.adversary import AdversarialLoss
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.guard import GuardConfig
from infinity.training.learner import LoopConfig, Losses
from infinity.training.loaders.mixing import MixedResolution
from infinity.training.loaders.pictures import PictureBatch
from infinity.training.loop import train
from infinity.training.optimizers.optimizer import OptimizerConfig
from infinity.training.tokenizer.discriminator import AdversarialConfig
from infinity.training.tokenizer.objective import TokenizerLosses
from tests.fixtures.data.training_pictures import RESOLUTION, make_data
from tests.fixtures.jobs.toy_training import all_states, assert_same, quiet
from tests.fixtures.jobs.training_sessions import LOOP, session, tokenizer_spec, train_here, untimed

SMALL = AdversarialConfig(
    optimizer=OptimizerConfig(learning_rate=4e-3, clip_norm=1.0, betas=(0.5, 0.9)),
    from_step=2,
    num_layers=2,
    base_width=8,
    lecam=0.5,
    lecam_margin=0.0,
    lecam_decay=0.9,
)
MIXED = (
    MixedResolution(resolution=RESOLUTION.replace(dense=True), batch_size=8),
    MixedResolution(resolution=Resolution(sides=(1, 2, 4, 6), dense=True), batch_size=4),
)
EVERYTHING: dict[str, Any] = {
    "adversarial": SMALL,
    "mixed": MIXED,
    "losses": TokenizerLosses(keep_probability=0.5, truncated=0.5, truncated_share=0.5),
    "loop": LOOP.replace(num_parts=2, save_every_steps=1, log_every_steps=1),
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def spec(manifest: str) -> TrainTokenizerSpec:
    return tokenizer_spec("/nowhere", manifest, **EVERYTHING)


@pytest.fixture(scope="module")
def whole(spec: TrainTokenizerSpec, tmp_path_factory: pytest.TempPathFactory) -> tuple[Session[Any], Path]:
    """The run to its end, and the states of all its steps."""
    folder = tmp_path_factory.mktemp("states")
    return train_here(spec, saves=folder), folder


def adversary_of(made: Session[Any]) -> dict[str, Tensor]:
    assert made.state.adversary is not None
    return {name: value.clone() for name, value in made.state.adversary.tensors()}


@pytest.mark.parametrize("step", range(LOOP.num_steps + 1))
def test_resumed_at_any_step_both_networks_end_bit_for_bit(
    spec: TrainTokenizerSpec, whole: tuple[Session[Any], Path], step: int
) -> None:
    """Discriminator, its optimizer, its averages and its losses too; with mixed resolutions and truncated pyramids."""
    quiet_run, folder = whole
    resumed = train_here(spec, resume=folder / f"step-{step:08d}")
    assert_same(quiet_run.state, resumed.state)
    assert quiet_run.state.facts().keys() == resumed.state.facts().keys()
    assert untimed(quiet_run.state.history) == untimed(resumed.state.history)
    assert resumed.state.adversary is not None
    assert resumed.state.adversary.recent == quiet_run.state.adversary.recent != []  # type: ignore[union-attr]


def test_it_begins_at_its_step_and_learns(spec: TrainTokenizerSpec, whole: tuple[Session[Any], Path]) -> None:
    made, folder = whole
    fresh = adversary_of(session(spec))
    states = []
    for step in range(LOOP.num_steps + 1):
        at = session(spec)
        all_states(folder).restore(at.state, str(folder / f"step-{step:08d}"))
        states.append(adversary_of(at))
    for step in range(SMALL.from_step + 1):
        assert states[step].keys() == fresh.keys(), "no optimizer before its first step"
        assert all(torch.equal(value, fresh[name]) for name, value in states[step].items())
    first = states[SMALL.from_step + 1]
    assert any(not torch.equal(value, fresh[name]) for name, value in first.items() if name in fresh)
    assert bool((first["weights/averages"] != 0).all())
    rows = {int(row["step"]): row for row in made.state.history}
    assert "discriminator" not in rows[SMALL.from_step]
    assert {"discriminator", "adversarial", "answer_real", "answer_fake", "opponent_grad_norm"} <= rows[3].keys()


def test_one_step_is_the_published_formulas(manifest: str) -> None:
    """Hinge losses of the same reconstructions for both; the tokenizer's gradient has the adversarial term in it."""
    config = SMALL.replace(from_step=0, lecam_decay=None, lecam=0.05, lecam_margin=0.1, weight=0.3)
    made = session(tokenizer_spec("/nowhere", manifest, adversarial=config))
    task, (part,) = made.task, made.loader(0)
    assert made.state.adversary is not None
    made.state.adversary.awake = True
    losses = task.losses(part, torch.Generator().manual_seed(0), measured=False)
    discriminator = made.state.adversary.module
    images = part.images_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1.0
    rebuilt = task.module(images, part.schedule).reconstruction_B3HW
    real, fake = discriminator(images), discriminator(rebuilt)
    regulariser = sum((value.mean().abs() - 0.1).clamp_min(0) ** 2 for value in (real, fake))
    expected = 0.5 * ((1 - real).clamp_min(0).mean() + (1 + fake).clamp_min(0).mean()) + 0.05 * regulariser
    assert losses.adversarial is not None
    assert losses.unguarded is not None
    torch.testing.assert_close(losses.adversarial.loss, expected)
    torch.testing.assert_close(losses.unguarded, -0.3 * fake.mean())
    torch.testing.assert_close(losses.adversarial.seen, torch.stack([real.mean(), fake.mean()]))
    losses.unguarded.backward(retain_graph=True)
    assert all(weight.grad is None for weight in discriminator.parameters())
    assert any(bool((weight.grad != 0).any()) for weight in task.module.parameters() if weight.grad is not None)
    task.module.zero_grad()
    losses.adversarial.loss.backward()
    assert all(weight.grad is None for weight in task.module.parameters())
    assert all(weight.grad is not None for weight in discriminator.parameters())


class Poisoned:
    """Spoils the losses of some batches, by a factor, of the tokenizer or of the discriminator."""

    def __init__(self, task: Any, loader: Any, poisons: dict[int, tuple[str, float]]) -> None:
        self._task, self._loader, self._poisons, self.at = task, loader, poisons, 0
        self.module, self.loss_at_start, self.check = task.module, task.loss_at_start, task.check
        self.flops = task.flops

    def loader(self, position: int) -> Sequence[PictureBatch]:
        self.at = position
        return self._loader(position)  # type: ignore[no-any-return]

    def losses(self, part: PictureBatch, generator: torch.Generator, *, measured: bool) -> Losses:
        losses: Losses = self._task.losses(part, generator, measured=measured)
        which, factor = self._poisons.get(self.at, ("", 1.0))
        adversarial, answer, per_sample = losses.adversarial, losses.unguarded, losses.per_sample
        if which == "adversarial" and adversarial is not None:
            adversarial = AdversarialLoss(adversarial.loss * factor, adversarial.seen)
        elif which == "answer" and answer is not None:
            answer = answer * factor
        elif which == "picture":
            per_sample = per_sample * factor
        return Losses(per_sample, losses.shared, losses.metrics, answer, adversarial, losses.batch_size)


def train_poisoned(
    spec: TrainTokenizerSpec, poisons: dict[int, tuple[str, float]], skip: tuple[int, ...] = ()
) -> Session[Any]:
    torch.set_num_threads(1)
    made = session(spec)
    task, loop = Poisoned(made.task, made.loader, poisons), spec.loop.replace(skip_batches=skip)
    train(made.state, task, task.loader, loop, spec.optimizer, quiet(None), seed=spec.seed)
    return made


SAMPLED = [("picture", 1000.0), ("answer", float("inf")), ("adversarial", 1e3)]


@pytest.mark.parametrize("poison", [*SAMPLED, ("picture", float("nan")), ("adversarial", float("nan"))])
def test_poison_of_either_network_undoes_the_step_of_both(
    spec: TrainTokenizerSpec, poison: tuple[str, float], exhaustive: bool
) -> None:
    if not exhaustive and poison not in SAMPLED:
        pytest.skip("one poison of each loss; all with --exhaustive")
    batches = (3, 5)
    spec = spec.replace(loop=spec.loop.replace(guard=GuardConfig(explosion=5.0)))
    spoiled = train_poisoned(spec, dict.fromkeys(batches, poison))
    clean = train_poisoned(spec, {}, skip=batches)
    assert [each.position for each in spoiled.state.skipped] == list(batches)
    assert_same(spoiled.state, clean.state)
    assert spoiled.state.adversary.recent == clean.state.adversary.recent  # type: ignore[union-attr]
    said = spoiled.state.skipped[0].reason
    assert ("discriminator" in said) == (poison[0] == "adversarial")


def _two_ranks(rank: int, folder: str, spec: TrainTokenizerSpec) -> None:
    os.environ.update(GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    made = train_here(spec, group=ProcessGroup.current())
    torch.save((dict(made.state.tensors()), made.state.history), f"{folder}/rank-{rank}")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_train_both_networks_like_one(
    spec: TrainTokenizerSpec, whole: tuple[Session[Any], Path], tmp_path: Path
) -> None:
    """Parts, their draws and their batch statistics are the same; sums have another order."""
    mp.spawn(_two_ranks, args=(str(tmp_path), spec), nprocs=2)
    alone = dict(whole[0].state.tensors())
    results = [torch.load(tmp_path / f"rank-{rank}") for rank in (0, 1)]
    for tensors, _ in results:
        assert tensors.keys() == alone.keys()
        for name, value in tensors.items():
            torch.testing.assert_close(value, results[0][0][name], rtol=0, atol=0)
            if name.startswith("weights/") or name.startswith("opponent/weights"):
                torch.testing.assert_close(value, alone[name], rtol=1e-3, atol=1e-5, msg=name)
    for mine, theirs in zip(results[0][1], whole[0].state.history, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        if "discriminator" in theirs:
            assert mine["discriminator"] == pytest.approx(theirs["discriminator"], abs=1e-4)


def test_steps_take_turns_with_resolutions_and_weigh_each_batch_whole(
    spec: TrainTokenizerSpec, whole: tuple[Session[Any], Path]
) -> None:
    made = session(spec)
    seen = [
        [(len(part.keys), part.batch_size, tuple(part.images_BHWC.shape[1:3])) for part in made.loader(n)]
        for n in range(8)
    ]
    large, small = [(4, 8, (16, 16))] * 2, [(2, 4, (24, 24))] * 2
    for first in range(0, 8, 2):
        assert sorted(seen[first : first + 2]) == sorted([large, small]), "each once a round"
    assert len({tuple(map(tuple, seen[first])) for first in range(0, 8, 2)}) == 2, "in a drawn order"
    for rank in (0, 1):
        mine = session(spec, ProcessGroup(rank=rank, size=2))
        assert [mine.loader(n)[0].rows for n in range(8)] == [made.loader(n)[rank].rows for n in range(8)]
    rows = whole[0].state.history
    assert max(row["loss"] for row in rows) < 2.5 * min(row["loss"] for row in rows), "no batch counts half"


def test_the_state_of_a_training_without_a_discriminator_is_refused(
    spec: TrainTokenizerSpec, whole: tuple[Session[Any], Path], tmp_path: Path
) -> None:
    plain = spec.replace(adversarial=None)
    with pytest.raises(ValueError, match="state of a training with a discriminator, expected none"):
        train_here(plain, resume=whole[1] / "step-00000003")
    train_here(plain.replace(loop=LoopConfig(num_steps=1, batch_size=8)), saves=tmp_path)
    with pytest.raises(ValueError, match="state of a training without a discriminator, expected one"):
        train_here(spec, resume=tmp_path / "step-00000001")
    wider = spec.replace(adversarial=SMALL.replace(base_width=16))
    with pytest.raises(ValueError, match="state of another discriminator; weights that differ"):
        train_here(wider, resume=whole[1] / "step-00000003")
