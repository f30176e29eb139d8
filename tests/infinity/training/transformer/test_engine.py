"""Every switch of the engine gives the same losses on the same batches; what a machine cannot do is said at once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from infinity.jobs.cluster.workers import WorkersConfig
from infinity.scales import Resolution
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.learner import TrainingError
from infinity.training.optimizers.optimizer import OptimizerConfig
from infinity.training.state import generator_for
from infinity.training.transformer import engine
from infinity.training.transformer.engine import EngineConfig, check_compiler
from infinity.training.transformer.objective import TransformerObjective
from infinity.transformer.loss import accuracy_per_scale, token_cross_entropy
from tests.fixtures.data.training_pictures import TRANSFORMER, make_data
from tests.fixtures.jobs.toy_training import all_states, assert_same
from tests.fixtures.jobs.training_sessions import LOOP, OPTIMIZER, make_tokenizer, session, train_here, transformer_spec

SHARDED = WorkersConfig(num_workers=2, threads=1, shard=True)
STILL = TRANSFORMER.replace(condition_drop=0.0, drop_path=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A manifest and a tokenizer."""
    folder = tmp_path_factory.mktemp("data")
    manifest = make_data(folder)
    return manifest, make_tokenizer(folder, manifest)


@pytest.fixture
def eager() -> Iterator[None]:
    """Nothing is compiled, which would take minutes."""
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[ProcessGroup]:
    """A process group of this process alone."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield ProcessGroup.current()
    dist.destroy_process_group()


def losses_of(tmp_path: Path, data: tuple[str, str], **changes: object) -> list[float]:
    spec = transformer_spec(tmp_path, *data, **changes)
    return [row["loss"] for row in train_here(spec).state.history]


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": EngineConfig(attention="dense")},
        {"recompute": True},
        {"num_scales": 3},  # that is all
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_switch_changes_no_loss(tmp_path: Path, data: tuple[str, str], changes: dict[str, object]) -> None:
    assert losses_of(tmp_path, data, **changes) == pytest.approx(losses_of(tmp_path, data), abs=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler has many of its own
def test_compiled_blocks_change_no_loss(tmp_path: Path, data: tuple[str, str], exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("compiling takes minutes; runs with --exhaustive")
    compiled = losses_of(tmp_path, data, engine=EngineConfig(compile=True))
    assert compiled == pytest.approx(losses_of(tmp_path, data), abs=1e-5)


def _compiled_shards(rank: int, folder: str, data: tuple[str, str]) -> None:
    from torch._dynamo.utils import counters

    os.environ.update(GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    group, states = ProcessGroup.current(), Path(folder) / "states"
    spec = transformer_spec(
        folder, *data, loop=LOOP.replace(num_parts=2), workers=SHARDED, engine=EngineConfig(compile=True)
    )
    whole = train_here(spec, saves=states, group=group).state
    assert counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    assert not counters["graph_break"]
    assert_same(whole, train_here(spec, resume=states / "step-00000003", group=group).state)
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_compiled_blocks_of_shared_out_weights_change_no_loss_and_resume_bit_for_bit(
    tmp_path: Path, data: tuple[str, str], exhaustive: bool
) -> None:
    if not exhaustive:
        pytest.skip("compiling takes minutes; runs with --exhaustive")
    mp.spawn(_compiled_shards, args=(str(tmp_path), data), nprocs=2)
    spec = transformer_spec(tmp_path, *data, loop=LOOP.replace(num_parts=2))
    compiled = session(spec).state
    all_states(tmp_path / "states").restore(compiled, str(tmp_path / "states" / "step-00000006"))
    eager = train_here(spec).state
    assert [row["loss"] for row in compiled.history] == pytest.approx([row["loss"] for row in eager.history], abs=1e-5)


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")  # it returns views, which nobody changes
def test_weights_gathered_in_bfloat16_give_the_losses_of_autocast_which_are_near_float32(
    tmp_path: Path, data: tuple[str, str], group_of_one: ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "infinity.transformer.number_formats.precision._has_instructions", lambda: True
    )  # emulated elsewhere
    half = EngineConfig(bfloat16=True)
    plain = losses_of(tmp_path, data, engine=half)
    workers = WorkersConfig(num_workers=1, threads=1, shard=True)
    spec = transformer_spec(tmp_path, *data, workers=workers, engine=half)
    trained = train_here(spec, group=group_of_one)
    assert [row["loss"] for row in trained.state.history] == pytest.approx(plain, abs=1e-5)
    assert plain == pytest.approx(losses_of(tmp_path, data), abs=5e-3)
    assert plain != losses_of(tmp_path, data), "products were float32"
    for weight in trained.state.module.parameters():
        assert weight.dtype == torch.float32, "what is trained stays float32"


def test_bfloat16_and_deterministic_change_no_earlier_digest(tmp_path: Path, data: tuple[str, str]) -> None:
    spec = transformer_spec(tmp_path, *data)
    dense = spec.replace(engine=EngineConfig(attention="dense"))
    assert "bfloat16" not in str(dense.engine.identity())
    assert spec.digest() != spec.replace(engine=EngineConfig(bfloat16=True)).digest()


def test_a_processor_that_emulates_bfloat16_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinity.transformer.number_formats.precision._has_instructions", lambda: False)
    with pytest.raises(TrainingError, match=r"engine\.bfloat16: this processor has no instructions for it"):
        engine.begin(EngineConfig(bfloat16=True), torch.device("cpu"))
    engine.begin(EngineConfig(bfloat16=True), torch.device("cuda"))


def test_a_deterministic_training_resumes_bit_for_bit_and_uses_only_ordered_kernels(
    tmp_path: Path, data: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    before = torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    spec = transformer_spec(tmp_path, *data, engine=EngineConfig(deterministic=True))
    try:
        whole = train_here(spec, saves=tmp_path / "states").state
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert not torch.backends.cudnn.benchmark, "what is fastest now may be another kernel after a resume"
        assert_same(whole, train_here(spec, resume=tmp_path / "states" / "step-00000003").state)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark = before


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")  # it returns views, which nobody changes
def test_weights_that_wait_on_the_cpu_change_no_loss(
    tmp_path: Path, data: tuple[str, str], group_of_one: ProcessGroup
) -> None:
    workers = WorkersConfig(num_workers=1, threads=1, shard=True, offload=True)
    spec = transformer_spec(tmp_path, *data, workers=workers)
    offloaded = [row["loss"] for row in train_here(spec, group=group_of_one).state.history]
    assert offloaded == pytest.approx(losses_of(tmp_path, data), abs=1e-6)


def test_offloading_without_sharing_out_is_refused() -> None:
    with pytest.raises(ValueError, match="set shard too"):
        WorkersConfig(offload=True)


def test_only_the_first_scales_are_taught_and_nothing_else_about_them_changes(
    tmp_path: Path, data: tuple[str, str]
) -> None:
    """The loss of the first two scales alone equals that of their tokens in a pass over all scales."""
    spec = transformer_spec(tmp_path, *data, model=STILL, self_correction=0.0, weighting="by_token", num_scales=2)
    made = session(spec)
    (part,) = made.loader(0)
    few = made.task.losses(part, generator_for(0, "x"), measured=True)
    whole = session(spec.replace(num_scales=None)).task
    taught = whole._teach(part, generator_for(0, "x"))
    logits = whole.module.eval()(part.text, taught.inputs_BMC, part.schedule)
    prefix = part.schedule.prefix(2)
    expected = token_cross_entropy(logits, taught.labels.bits_BLC)[:, : prefix.num_tokens].mean(dim=1)
    torch.testing.assert_close(few.per_sample, expected, atol=1e-6, rtol=0)
    right = accuracy_per_scale(logits, taught.labels.bits_BLC, part.schedule).bits_K
    assert float(few.metrics["bit_accuracy.scale_1"]) == pytest.approx(float(right[1]))
    assert "bit_accuracy.scale_2" not in few.metrics


def test_the_z_loss_adds_its_weight_times_the_square_and_is_logged(tmp_path: Path, data: tuple[str, str]) -> None:
    spec = transformer_spec(tmp_path, *data, model=STILL, self_correction=0.0, weighting="by_token")
    plain, penalised = session(spec), session(spec.replace(z_loss=0.5))
    (part,) = plain.loader(0)
    a = plain.task.losses(part, generator_for(0, "x"), measured=True)
    b = penalised.task.losses(part, generator_for(0, "x"), measured=True)
    square = float(b.metrics["log_partition_square"])
    assert square > 0.0
    assert float((b.per_sample - a.per_sample).detach().mean()) == pytest.approx(0.5 * square, rel=1e-4)
    assert "log_partition_square" not in a.metrics


def test_eight_bit_means_learn_nearly_the_same_and_resume_bit_for_bit(
    tmp_path: Path, data: tuple[str, str], eager: None
) -> None:
    pytest.importorskip("torchao", reason="optimizer states of 8 bits need torchao")
    optimizer = OPTIMIZER.replace(states="8bit")
    # Wide enough that the means of its matrices are really kept in 8 bits.
    model = TRANSFORMER.replace(width=64, mlp_ratio=4.0)
    spec = transformer_spec(tmp_path, *data, model=model, optimizer=optimizer)
    whole = train_here(spec, saves=tmp_path).state
    names = [name for name, _ in whole.tensors() if name.endswith(".codes")]
    assert len(names) > 10
    resumed = train_here(spec, resume=tmp_path / "step-00000003").state
    assert_same(whole, resumed)
    exact = losses_of(tmp_path / "exact", data, model=model)
    assert [row["loss"] for row in whole.history] == pytest.approx(exact, abs=5e-3)


def test_eight_bit_means_of_shared_out_weights_are_refused_with_the_reason(
    tmp_path: Path, data: tuple[str, str]
) -> None:
    spec = transformer_spec(tmp_path, *data, optimizer=OPTIMIZER.replace(states="8bit"))
    with pytest.raises(ValueError, match=r"layout of 8-bit moments.*expected 'float32' with workers.shard"):
        spec.replace(workers=SHARDED, loop=spec.loop.replace(num_parts=2))


def test_eight_bit_means_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    from infinity.training.optimizers.optimizer import make_optimizer

    monkeypatch.setitem(__import__("sys").modules, "torchao.optim", None)
    with pytest.raises(ImportError, match="needs the library torchao"):
        make_optimizer(torch.nn.Linear(2, 2), OptimizerConfig(learning_rate=1.0, states="8bit"))


def test_flex_attention_is_refused_on_a_cpu(tmp_path: Path, data: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="no backward pass on a CPU"):
        transformer_spec(tmp_path, *data, engine=EngineConfig(attention="flex"))


def test_compiling_without_a_compiler_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.shutil, "which", lambda name: None)
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"needs a C\+\+ compiler"):
        check_compiler(torch.device("cpu"))
    with pytest.raises(TrainingError, match="needs Triton"):
        check_compiler(torch.device("cuda"))


def test_later_switches_keep_the_names_of_earlier_jobs(tmp_path: Path) -> None:
    spec = transformer_spec(tmp_path, "manifest", "tokenizer")
    assert not {"z_loss", "num_scales", "engine"} & spec.identity().keys()
    for change in ({"z_loss": 1e-4}, {"num_scales": 2}, {"engine": EngineConfig(compile=True)}):
        assert spec.replace(**change).digest() != spec.digest()


@pytest.mark.parametrize("objective", [{"z_loss": -1.0}, {"num_scales": 0}, {"self_correction": 1.5}])
def test_wrong_settings_of_the_loss_are_refused(objective: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(objective))):
        TransformerObjective(**objective)  # type: ignore[arg-type]


def test_the_ends_of_what_may_be_taught_are_possible() -> None:
    assert TransformerObjective(num_scales=1, z_loss=0.0, self_correction=0.0).num_scales == 1
    assert TransformerObjective(self_correction=1.0).self_correction == 1.0
    schedule = Resolution(sides=(1, 2, 3)).schedule(1.0)
    assert [TransformerObjective(num_scales=n).trained(schedule).num_scales for n in (None, 1, 2, 3, 4)] == [
        3,
        1,
        2,
        3,
        3,
    ]


def test_accumulated_parts_may_have_the_memory_of_one(tmp_path: Path, data: tuple[str, str]) -> None:
    """Four parts one after the other give the loss of all at once, where nothing is drawn."""
    still = {"model": STILL, "self_correction": 0.0}
    parts = losses_of(tmp_path, data, loop=LOOP.replace(num_parts=4), **still)
    assert parts == pytest.approx(losses_of(tmp_path / "whole", data, **still), abs=1e-5)
