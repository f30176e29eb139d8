"""A transformer learns from latents computed once, resumes exactly, and refuses bits that carry nothing."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from infinity.data.dataset.manifest import Manifest
from infinity.data.loading.batches import BatchPlan
from infinity.data.loading.captions import CaptionConfig, CaptionDraw
from infinity.generation.pipeline import load_transformer
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.training.base import STATE_FOLDER
from infinity.jobs.training.worker import train_session
from infinity.text import build_text_encoder
from infinity.tokenizer.saved import load_tokenizer, save_tokenizer
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.learner import InterruptedTraining
from infinity.training.loaders.latents import CaptionFeatures, LatentLoader
from infinity.training.loaders.pictures import LoaderConfig
from infinity.training.tokenizer.collapse import CollapseError
from tests.fixtures.data.training_pictures import RESOLUTION, TEXT, TRANSFORMER, make_data
from tests.fixtures.jobs.toy_training import all_states, assert_same
from tests.fixtures.jobs.training_sessions import LOOP, make_tokenizer, session, train_here, transformer_spec, untimed
from tests.infinity.training.distributed.test_joint_checkpoints import two_workers

STILL = TRANSFORMER.replace(condition_drop=0.0, drop_path=0.0)

SHARDED = WorkersConfig(num_workers=2, threads=1, shard=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A manifest and a tokenizer."""
    folder = tmp_path_factory.mktemp("data")
    manifest = make_data(folder)
    return manifest, make_tokenizer(folder, manifest)


def test_the_bits_are_learned_and_measured_by_scale(tmp_path: Path, data: tuple[str, str]) -> None:
    spec = transformer_spec(tmp_path, *data)
    history = train_here(spec.replace(loop=LOOP.replace(num_steps=60, log_every_steps=30))).state.history
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert history[-1]["bit_accuracy"] > 0.6
    for k in range(3):
        assert 0.0 <= history[-1][f"token_accuracy.scale_{k}"] <= history[-1][f"bit_accuracy.scale_{k}"] <= 1.0


def test_a_resumed_transformer_equals_the_uninterrupted_one_bit_for_bit(tmp_path: Path, data: tuple[str, str]) -> None:
    """With self-correction, dropped captions and dropped blocks, whose draws belong to the step."""
    spec = transformer_spec(tmp_path, *data)
    whole = train_here(spec, saves=tmp_path).state
    resumed = train_here(spec, resume=tmp_path / "step-00000003").state
    assert_same(whole, resumed)
    assert untimed(whole.history) == untimed(resumed.history)


def test_accumulated_parts_equal_the_big_batch_where_nothing_is_drawn(tmp_path: Path, data: tuple[str, str]) -> None:
    spec = transformer_spec(tmp_path, *data, model=STILL, self_correction=0.0)
    parts = train_here(spec.replace(loop=LOOP.replace(num_parts=4))).state
    assert_close(train_here(spec).state.history, parts.history)


def test_equal_loss_of_all_tokens_is_another_loss(tmp_path: Path, data: tuple[str, str]) -> None:
    spec = transformer_spec(tmp_path, *data, model=STILL, self_correction=0.0)
    by_scale = train_here(spec).state.history[-1]["loss"]
    by_token = train_here(spec.replace(weighting="by_token")).state.history[-1]["loss"]
    assert by_scale != pytest.approx(by_token, rel=1e-6)


def test_latents_are_the_same_whether_they_are_kept_or_computed_at_every_step(data: tuple[str, str]) -> None:
    manifest, tokenizer = Manifest.load(data[0]), load_tokenizer(data[1])
    plan = BatchPlan(manifest, "train", 8, seed=3)

    def loader(cache_bytes: int) -> LatentLoader:
        encoder = build_text_encoder(TEXT)
        draw = CaptionDraw(manifest, CaptionConfig(), plan.key, encoder.num_tokens, encoder.max_tokens)
        captions = CaptionFeatures(draw, encoder, cache_bytes)
        share = LoaderConfig(manifest=manifest, plan=plan, resolution=RESOLUTION, group=ProcessGroup(), num_steps=4)
        return LatentLoader(share, tokenizer, captions, cache_bytes=cache_bytes)

    kept, computed = loader(2**30), loader(0)
    for step in (0, 3, 1):
        (a,), (b,) = kept(step), computed(step)
        assert a.keys == b.keys
        torch.testing.assert_close(a.latents, b.latents)
        assert torch.equal(a.text.features_TD, b.text.features_TD)
    torch.testing.assert_close(kept.usage(), computed.usage())
    computed.close()


def test_a_tokenizer_with_constant_bits_is_refused_before_training(tmp_path: Path, data: tuple[str, str]) -> None:
    tokenizer = load_tokenizer(data[1])
    with torch.no_grad():
        tokenizer.encoder.conv_out.weight.zero_()
    save_tokenizer(str(tmp_path / "constant"), tokenizer)
    spec = transformer_spec(tmp_path, data[0], str(tmp_path / "constant"))
    with pytest.raises(CollapseError, match="100% of its bits hardly ever change"):
        session(spec)


def _two_ranks(rank: int, folder: str, data: tuple[str, str]) -> None:
    os.environ.update(GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    spec = transformer_spec(folder, *data, loop=LOOP.replace(num_parts=2))
    train_here(spec, saves=Path(folder) / f"rank-{rank}", group=ProcessGroup.current())
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one_on_the_same_batches(tmp_path: Path, data: tuple[str, str]) -> None:
    mp.spawn(_two_ranks, args=(str(tmp_path), data), nprocs=2)
    """With everything that is drawn: flips, dropped conditions, dropped blocks belong to a part, not to a worker."""
    spec = transformer_spec(tmp_path, *data, loop=LOOP.replace(num_parts=2))
    alone = train_here(spec).state
    for rank in (0, 1):
        state = session(spec).state
        all_states(tmp_path / f"rank-{rank}").restore(state, str(tmp_path / f"rank-{rank}" / "step-00000006"))
        for mine, theirs in zip(alone.history, state.history, strict=True):
            assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-6)
        for name, value in alone.module.state_dict().items():
            torch.testing.assert_close(value, state.module.state_dict()[name], rtol=1e-3, atol=1e-4)


def _two_shards(rank: int, folder: str, data: tuple[str, str]) -> None:
    os.environ.update(GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/shard-meeting", rank=rank, world_size=2)
    spec = transformer_spec(folder, *data, loop=LOOP.replace(num_parts=2), workers=SHARDED, recompute=True)
    made = train_here(spec, saves=Path(folder) / "shards", group=ProcessGroup.current())
    samples = made.draw()
    made.export(str(Path(folder) / "sharded-model"))
    assert bool(samples.png) == (rank == 0)
    again = train_here(spec, resume=Path(folder) / "shards" / "step-00000003", group=ProcessGroup.current())
    for (name, mine), (_, theirs) in zip(made.state.tensors(), again.state.tensors(), strict=True):
        assert torch.equal(mine, theirs), (name, mine, theirs)
    one = train_here(spec, resume=Path(folder) / "alone" / "step-00000003", group=ProcessGroup.current())
    assert one.state.history[-1]["loss"] == pytest.approx(made.state.history[-1]["loss"], abs=1e-5)
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_sharded_ranks_equal_one_resume_exactly_and_export_a_plain_model(tmp_path: Path, data: tuple[str, str]) -> None:
    """Each rank stores its own rows; either number of ranks goes on with what the other has stored."""
    spec = transformer_spec(tmp_path, *data, loop=LOOP.replace(num_parts=2))
    alone = train_here(spec, saves=tmp_path / "alone")
    mp.spawn(_two_shards, args=(str(tmp_path), data), nprocs=2)
    stored = session(spec).state
    last = tmp_path / "shards" / "step-00000006"
    files = [last / "model-1of2.safetensors", last / "model-2of2.safetensors"]
    assert sorted(last.glob("*.safetensors")) == files
    assert 0.8 < files[0].stat().st_size / files[1].stat().st_size < 1.6
    all_states(tmp_path / "shards").restore(stored, str(last))
    gone_on = train_here(spec, resume=tmp_path / "shards" / "step-00000003").state
    assert gone_on.history[-1]["loss"] == pytest.approx(alone.state.history[-1]["loss"], abs=1e-5)
    for mine, theirs in zip(alone.state.history, stored.history, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
    for name, value in alone.state.module.state_dict().items():
        torch.testing.assert_close(value, stored.module.state_dict()[name], rtol=1e-3, atol=1e-4)
    assert set(load_transformer(str(tmp_path / "sharded-model"))[1].state_dict()) == set(stored.module.state_dict())


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")  # nothing changes these views in place
def test_sharded_workers_of_a_job_stop_together_go_on_and_end(tmp_path: Path, data: tuple[str, str]) -> None:
    """What each worker of a job does: asked to stop, both store; again, both come to the end and export once."""
    spec = transformer_spec(tmp_path, *data, loop=LOOP.replace(num_parts=2), workers=SHARDED)
    states = Path(spec.folder) / STATE_FOLDER

    def work(stops: bool) -> Callable[[int], None]:
        def one(_rank: int) -> None:
            group, asked = ProcessGroup.current(), iter([False, False, False, stops])
            made = session(spec, group)
            if stops:
                with pytest.raises(InterruptedTraining, match="after step 4"):
                    train_session(spec, made, group, lambda _share, _text: None, lambda: next(asked))
            else:
                train_session(spec, made, group, lambda _share, _text: None, lambda: False)
                assert made.state.step == 6

        return one

    assert two_workers(work(stops=True), tmp_path / "first") == [0, 0]
    assert sorted(path.name for path in states.iterdir()) == ["step-00000003", "step-00000004"]
    assert two_workers(work(stops=False), tmp_path / "second") == [0, 0]
    assert (states / "step-00000006" / "COMMITTED").exists()
    load_transformer(f"{spec.folder}/model")


def assert_close(history, other) -> None:  # type: ignore[no-untyped-def]
    for a, b in zip(untimed(history), untimed(other), strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-3)
