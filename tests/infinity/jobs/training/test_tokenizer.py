"""The tokenizer's training as a job: checked before it starts, resumed after a death, skipped when done."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from infinity import storage
from infinity.checkpoint import CheckpointError
from infinity.convert import export_tokenizer
from infinity.data.dataset.manifest import ManifestError
from infinity.jobs.cluster.connection import in_process
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.progress import Progress
from infinity.jobs.training import tokenizer as train_tokenizer
from infinity.jobs.training.base import STATE_FOLDER, Session
from infinity.perception.lpips import LpipsConfig
from infinity.reporting.plots.curves import read_curves
from infinity.storage import StorageError
from infinity.tokenizer.saved import load_tokenizer, save_tokenizer
from infinity.tokenizer.tokenizer import Tokenizer
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.ema import averaged
from infinity.training.learner import NonFiniteLossError, TrainingError
from infinity.training.loaders.mixing import MixedResolution
from infinity.training.loop import train
from infinity.training.optimizers.optimizer import OptimizerConfig
from infinity.training.tokenizer.objective import PerceptualConfig
from tests.fixtures.data.training_pictures import RESOLUTION, TOKENIZER, make_data
from tests.fixtures.faults.killing import train_with_a_kill
from tests.fixtures.jobs.toy_training import quiet
from tests.fixtures.jobs.training_sessions import LOOP, make_tokenizer, session, tokenizer_spec, train_here
from tests.infinity.perception.test_lpips import pinned, random_tensors
from tests.infinity.training.tokenizer.test_adversarial import SMALL

ONE = WorkersConfig(num_workers=1, threads=1, max_failures=0)
LONG = LOOP.replace(num_steps=240, log_every_steps=10, save_every_steps=40, sample_every_steps=120)
SHORT = LONG.replace(num_steps=60, save_every_steps=20, sample_every_steps=30)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_data(tmp_path_factory.mktemp("data"))


def test_a_spec_comes_back_from_json_and_its_folder_does_not_depend_on_the_output(manifest: str) -> None:
    spec = tokenizer_spec("/a", manifest)
    assert train_tokenizer.TrainTokenizerSpec.parse(spec.dump()) == spec
    assert storage.name(spec.folder) == storage.name(spec.replace(output="/b").folder)
    assert spec.digest() != spec.replace(seed=1).digest()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["in peace", "whose worker is killed"])
def test_a_job_ends_as_if_nothing_had_happened(
    request: pytest.FixtureRequest, tmp_path: Path, manifest: str, killed: bool, exhaustive: bool
) -> None:
    if killed and not exhaustive:
        pytest.skip("a minute; a worker of a transformer's job is killed in test_survival.py")

    loop = LONG if killed else SHORT

    def spec_in(name: str) -> train_tokenizer.TrainTokenizerSpec:
        return tokenizer_spec(tmp_path / name, manifest, workers=ONE, loop=loop)

    if killed:
        request.getfixturevalue("local_ray")
        spec, report, steps = train_with_a_kill(train_tokenizer.run, spec_in, step=80)
        assert steps.count(10) <= 1
        assert steps[-1] == 240, "the new worker goes on from a checkpoint"
    else:
        spec = spec_in("peace")
        with in_process():
            report = train_tokenizer.run(spec)

    alone = train_here(spec)
    tokenizer = load_tokenizer(report.model)
    with averaged(alone.task.module, alone.state.ema):
        for name, value in alone.task.module.state_dict().items():
            assert torch.equal(value, tokenizer.state_dict()[name]), name
    steps = [step for step, _ in read_curves(report.training.metrics)["loss"]]
    assert steps == [*range(10, loop.num_steps + 1, 10)]
    assert [sheet.title for sheet in report.training.samples] == [
        f"step {loop.sample_every_steps}",
        f"step {loop.num_steps}",
    ]
    assert report.training.final["psnr_db"] == pytest.approx(alone.state.history[-1]["psnr_db"])

    skipped: list[Progress] = []
    assert train_tokenizer.run(spec, progress=skipped.append) == report
    assert skipped == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["here", "on Ray"])
def test_a_loss_that_stays_bad_ends_the_job_with_its_step_and_leaves_its_states(
    request: pytest.FixtureRequest, tmp_path: Path, manifest: str, place: str, exhaustive: bool
) -> None:
    if place == "on Ray":
        if not exhaustive:
            pytest.skip("half a minute; an outcome comes from a worker of Ray in test_survival.py, as a SIGTERM")
        request.getfixturevalue("local_ray")
    wild = OptimizerConfig(learning_rate=1e30, clip_norm=None)
    spec = tokenizer_spec(tmp_path, manifest, workers=ONE, optimizer=wild)
    hopeless = pytest.raises(NonFiniteLossError, match=r"at step 2: loss nan.*after 2 returns to a checkpoint")
    with in_process() if place == "here" else nullcontext(), hopeless:
        train_tokenizer.run(spec)
    assert storage.exists(storage.join(spec.folder, STATE_FOLDER, "step-00000000", "COMMITTED"))


@pytest.mark.ray
def test_more_workers_than_the_cluster_has_are_refused_instead_of_waited_for(
    local_ray: None, tmp_path: Path, manifest: str
) -> None:
    spec = tokenizer_spec(
        tmp_path, manifest, loop=LOOP.replace(num_parts=8), workers=WorkersConfig(num_workers=8, threads=16)
    )
    with pytest.raises(TrainingError, match="training wants 128 CPUs"):
        train_tokenizer.run(spec)


def test_a_training_in_this_process_has_one_worker(tmp_path: Path, manifest: str) -> None:
    spec = tokenizer_spec(tmp_path, manifest, loop=LOOP.replace(num_parts=2), workers=ONE.replace(num_workers=2))
    with in_process(), pytest.raises(TrainingError, match="has one worker, the spec asks for 2"):
        train_tokenizer.run(spec)


def test_a_start_of_another_bit_width_is_refused_before_training(tmp_path: Path, manifest: str) -> None:
    start = make_tokenizer(tmp_path, manifest, num_steps=1)
    spec = tokenizer_spec(tmp_path, manifest, model=TOKENIZER.replace(num_bits=4), start_from=start)
    with pytest.raises(ValueError, match="num_bits is 8 there and 4 here"):
        train_tokenizer.run(spec)


def test_a_start_gives_its_weights(tmp_path: Path, manifest: str) -> None:
    start = make_tokenizer(tmp_path, manifest, num_steps=1)
    spec = tokenizer_spec(tmp_path, manifest, start_from=start)
    made = train_tokenizer.build(spec, ProcessGroup(), torch.device("cpu"), lambda _s, _m: None)
    for name, value in load_tokenizer(start).state_dict().items():
        assert torch.equal(value, made.task.module.state_dict()[name])


def test_a_published_file_is_a_start(tmp_path: Path, manifest: str) -> None:
    """The format of released tokenizers, in a shape that it can hold."""
    start = make_published(tmp_path)
    published = TOKENIZER.replace(stem_px=1, norm_groups=None, base_width=32)
    spec = tokenizer_spec(tmp_path, manifest, model=published, start_from=start)
    train_tokenizer.check(spec)
    made = session(spec)
    for name, value in load_tokenizer(str(tmp_path / "ours")).state_dict().items():
        assert torch.equal(value, made.task.module.state_dict()[name])
    with pytest.raises(ValueError, match="num_bits is 8 there and 4 here"):
        train_tokenizer.check(spec.replace(model=published.replace(num_bits=4)))


def make_published(folder: Path) -> str:
    tokenizer = Tokenizer(TOKENIZER.replace(stem_px=1, norm_groups=None, base_width=32))
    tokenizer.init_weights(torch.Generator().manual_seed(3))
    save_tokenizer(str(folder / "ours"), tokenizer)
    export_tokenizer(str(folder / "ours"), str(folder / "published.pth"))
    return str(folder / "published.pth")


def test_a_discriminator_goes_on_from_the_one_beside_the_tokenizer(tmp_path: Path, manifest: str) -> None:
    spec = tokenizer_spec(tmp_path, manifest, adversarial=SMALL.replace(from_step=0), loop=LOOP.replace(num_steps=2))
    first = train_here(spec)
    first.export(str(tmp_path / "model"))
    second = session(spec.replace(start_from=str(tmp_path / "model"), seed=9))
    assert first.state.adversary is not None
    assert second.state.adversary is not None
    for name, value in first.state.adversary.module.state_dict().items():
        assert torch.equal(value, second.state.adversary.module.state_dict()[name])
    assert not second.state.adversary.optimizer.state, "a fresh optimizer"
    wider = spec.replace(start_from=str(tmp_path / "model"), adversarial=SMALL.replace(base_width=16))
    with pytest.raises(CheckpointError, match="discriminator"):
        train_tokenizer.check(wider)


def ready(made: Session[Any], state_from: Session[Any] | None = None) -> list[str]:
    """What people are told when a session begins, or goes on from the state of another."""
    if state_from is not None:
        made.state.load(dict(state_from.state.tensors()), state_from.state.facts(), where="test")
    told: list[str] = []

    def note(text: str) -> None:
        made.state.notes.append(text)
        told.append(text)

    made.ready(note)
    return told


def test_missing_weights_of_the_perceptual_loss_are_said_once_and_kept_out_to_the_end(
    tmp_path: Path, manifest: str
) -> None:
    trunk, judgements = random_tensors("vgg16")
    here = LpipsConfig(
        trunk_weights=pinned(trunk, tmp_path / "vgg.pth"), linear_weights=pinned(judgements, tmp_path / "lpips.pth")
    )
    spec = tokenizer_spec(tmp_path, manifest, perceptual=PerceptualConfig(network=here), loop=LOOP.replace(num_steps=1))
    with_them = session(spec)
    assert ready(with_them) == []
    train(with_them.state, with_them.task, with_them.loader, spec.loop, spec.optimizer, quiet(None), seed=0)
    assert with_them.state.history[-1]["lpips"] > 0

    for name in ("vgg.pth", "lpips.pth"):
        (tmp_path / name).rename(tmp_path / f"away-{name}")
    without = session(spec)
    (told,) = ready(without)
    assert "weights of LPIPS are missing" in told
    assert "vgg.pth" in told
    train(without.state, without.task, without.loader, spec.loop, spec.optimizer, quiet(None), seed=0)
    assert "lpips" not in without.state.history[-1]
    assert ready(session(spec), without) == [], "said already"
    with pytest.raises(TrainingError, match=r"began with the weights of LPIPS, which are missing now"):
        ready(session(spec), with_them)

    for name in ("vgg.pth", "lpips.pth"):
        (tmp_path / f"away-{name}").rename(tmp_path / name)
    resumed = session(spec)
    (told,) = ready(resumed, without)
    assert "goes on without them" in told
    assert resumed.task.perceptual is None
    (tmp_path / "vgg.pth").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="expected sha256"):
        session(spec)


def test_pictures_too_small_for_the_networks_of_the_losses_are_refused(tmp_path: Path, manifest: str) -> None:
    spec = tokenizer_spec(tmp_path, manifest, adversarial=SMALL.replace(num_layers=3))
    with pytest.raises(ValueError, match=r"adversarial.num_layers: needs .* at least 32 px a side.* 16 x 16 px"):
        train_tokenizer.check(spec)
    alexnet = PerceptualConfig(network=LpipsConfig(trunk="alexnet"))
    with pytest.raises(ValueError, match=r"perceptual.network.trunk: needs pictures of at least 31 px"):
        train_tokenizer.check(tokenizer_spec(tmp_path, manifest, perceptual=alexnet))
    few = (MixedResolution(resolution=RESOLUTION, batch_size=1),)
    with pytest.raises(ValueError, match=r"mixed: a batch of 1 pictures cannot be split into 2 micro-batches"):
        train_tokenizer.check(tokenizer_spec(tmp_path, manifest, mixed=few, loop=LOOP.replace(num_parts=2)))


def test_missing_inputs_are_named(tmp_path: Path, manifest: str) -> None:
    with pytest.raises(StorageError, match=r"nowhere\.parquet"):
        train_tokenizer.run(tokenizer_spec(tmp_path, str(tmp_path / "nowhere.parquet")))
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(ManifestError, match="expected a manifest"):
        train_tokenizer.run(tokenizer_spec(tmp_path, str(tmp_path / "text.parquet")))
    with pytest.raises(CheckpointError, match="found nothing there"):
        train_tokenizer.run(tokenizer_spec(tmp_path, manifest, start_from=str(tmp_path / "nothing")))
