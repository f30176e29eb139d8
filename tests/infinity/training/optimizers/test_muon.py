"""Muon: matrices of hidden layers step like torch's own, everything else like AdamW, and a resumed run is the same."""

import copy

import pytest
import torch
from torch import Tensor, nn

from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.presets import tokenizer_preset
from infinity.recipes.runs import end_to_end
from infinity.tokenizer.tokenizer import Tokenizer
from infinity.training.distributed.parallel import ProcessGroup
from infinity.training.ema import Ema
from infinity.training.optimizers.muon import Muon, _by_gram, _by_steps, orthogonal
from infinity.training.optimizers.optimizer import OptimizerConfig, make_optimizer
from infinity.training.state import TrainState
from infinity.training.tokenizer.discriminator import AdversarialConfig, PatchDiscriminator
from infinity.transformer.config import TransformerConfig
from infinity.transformer.model import Transformer

MUON = OptimizerConfig(learning_rate=1e-2, weight_decay=0.1, algorithm="muon")


class Network(nn.Module):
    """Has matrices of every form between a first and a last layer."""

    outer_layers = ("first", "last")

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)
        self.wide, self.tall, self.square = nn.Linear(8, 6, bias=False), nn.Linear(6, 12), nn.Linear(12, 12)
        self.conv = nn.Conv2d(12, 8, (3, 1), padding=(1, 0))
        self.table = nn.Parameter(torch.zeros(4, 8))
        self.norm = nn.LayerNorm(8)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.3, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.square(self.tall(self.wide(self.first(x).relu())))
        hidden = self.conv(hidden.mT.unsqueeze(-1)).squeeze(-1).mT
        result: Tensor = self.last(self.norm(hidden + self.table))
        return result


def learn(state: TrainState, steps: range) -> None:
    """Take steps whose batches follow from their numbers."""
    for step in steps:
        x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(step))
        state.optimizer.zero_grad()
        (state.module(x) - x[..., :3]).square().mean().backward()
        state.optimizer.step()


def new_state(config: OptimizerConfig = MUON) -> TrainState:
    module = Network()
    return TrainState(module=module, optimizer=make_optimizer(module, config), ema=Ema(module, 0.9))


@pytest.mark.parametrize("shape", [(8, 8), (6, 30), (30, 6), (6, 12), (1, 7), (7, 1)])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_a_matrix_steps_like_torchs_own_muon(shape: tuple[int, int], decay: float) -> None:
    start = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    others = [{"params": [nn.Parameter(torch.zeros(1))]}]
    optimizer = Muon([ours], others, betas=(0.9, 0.99), eps=1e-8, lr=0.02, weight_decay=decay)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        ours.grad = torch.randn(shape, generator=torch.Generator().manual_seed(10 + step))
        theirs.grad = ours.grad.clone()
        optimizer.step()
        reference.step()
    moved = (theirs - start).norm()
    assert moved > 0.01
    assert (ours - theirs).norm() < 0.05 * moved  # torch's products are bfloat16


def test_a_convolution_steps_like_the_matrix_of_its_output_channels() -> None:
    start = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(2))
    conv, matrix = nn.Parameter(start.to(memory_format=torch.channels_last)), nn.Parameter(start.flatten(1).clone())
    conv.grad = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(3)).to(
        memory_format=torch.channels_last
    )
    matrix.grad = conv.grad.flatten(1)
    for weight in (conv, matrix):
        other = [{"params": [nn.Parameter(torch.zeros(1))]}]
        Muon([weight], other, lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0).step()
    torch.testing.assert_close(conv.flatten(1), matrix, rtol=0, atol=0)
    assert not torch.equal(conv, start)


def test_everything_else_steps_like_adamw_bit_for_bit() -> None:
    states = new_state(), new_state(MUON.replace(algorithm="adamw"))
    for state in states:
        for step in range(3):
            for number, weight in enumerate(state.module.parameters()):
                generator = torch.Generator().manual_seed(100 * step + number)
                weight.grad = torch.randn(weight.shape, generator=generator)
            state.optimizer.step()
    ours, adamw = (dict(state.module.named_parameters()) for state in states)
    differing = {name for name in ours if not torch.equal(ours[name], adamw[name])}
    assert differing == {"wide.weight", "tall.weight", "square.weight", "conv.weight"}


@pytest.mark.parametrize("at", [1, 4])
def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(at: int) -> None:
    whole, first, second = new_state(), new_state(), new_state()
    learn(whole, range(6))
    learn(first, range(at))
    stored = {name: value.clone() for name, value in first.tensors()}
    assert "optimizer/conv.weight/momentum_buffer" in stored
    assert "optimizer/first.weight/exp_avg" in stored
    second.load(stored, copy.deepcopy(first.facts()), where="the state")
    learn(second, range(at, 6))
    for (name, expected), (_, found) in zip(whole.tensors(), second.tensors(), strict=True):
        assert torch.equal(expected, found), name


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 40), (1, 1, 5)])
def test_singular_values_become_about_one(
    has: bool, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infinity.training.optimizers.muon._dtype", lambda _: torch.bfloat16 if has else torch.float32)
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(4)) * 1e3
    result = orthogonal(matrices)
    assert result.dtype == torch.float32
    values = torch.linalg.svdvals(result)[:, : max(1, shape[1] // 2)]  # the smallest ones need more iterations
    assert values.min() > 0.6
    assert values.max() < 1.3


@pytest.mark.parametrize("shape", [(2, 4, 12), (1, 16, 100), (3, 1, 9)])
def test_wide_matrices_may_be_iterated_by_the_products_of_their_rows(shape: tuple[int, int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    x /= x.norm(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(_by_gram(x), _by_steps(x))


@pytest.mark.parametrize("shape", [(8, 128, 512), (2, 32, 288), (2, 64, 64), (1, 16, 400)])
def test_nearly_singular_matrices_stay_bounded(shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(6)
    number, rows, columns = shape
    matrices = torch.randn(number, rows, 2, generator=generator) @ torch.randn(number, 2, columns, generator=generator)
    matrices += 1e-4 * torch.randn(shape, generator=generator)
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.max() < 1.3
    assert values[:, 1].min() > 0.6


def test_a_gradient_of_zero_changes_nothing_and_is_finite() -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    weight.grad = torch.zeros(3, 3)
    others = [{"params": [nn.Parameter(torch.zeros(1))]}]
    Muon([weight], others, lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0).step()
    assert torch.equal(weight, torch.ones(3, 3))


def small_transformer() -> Transformer:
    config = TransformerConfig(width=16, num_heads=2, depth=1, num_bits=4, text_channels=8, max_text_tokens=4)
    transformer = Transformer(config)
    transformer.init_weights(torch.Generator().manual_seed(0))
    return transformer


def outer_modules() -> list[nn.Module]:
    tokenizer = Tokenizer(tokenizer_preset("scenes").replace(num_bits=4, base_width=8, norm_groups=2))
    return [small_transformer(), tokenizer, PatchDiscriminator(AdversarialConfig(base_width=8, optimizer=MUON))]


@pytest.mark.parametrize("module", outer_modules(), ids=lambda module: type(module).__name__)
def test_first_and_last_layers_are_left_to_adamw(module: nn.Module) -> None:
    optimizer = make_optimizer(module, MUON)
    assert isinstance(optimizer, Muon)
    matrices = {id(weight) for weight in optimizer.param_groups[0]["params"]}
    for name in module.outer_layers:  # type: ignore[union-attr]
        assert id(module.get_submodule(name).weight) not in matrices
    weights = [id(w) for group in optimizer.param_groups for w in group["params"]]
    assert sorted(weights) == sorted(id(w) for w in module.parameters())
    assert all(weight.ndim >= 2 for weight in optimizer.param_groups[0]["params"])


def test_matrices_alone_can_be_trained() -> None:
    network = Network().requires_grad_(False)
    network.square.weight.requires_grad_(True)  # as with adapters, where everything else is frozen
    optimizer = make_optimizer(network, MUON)
    before = network.square.weight.detach().clone()
    network(torch.ones(1, 4, 5)).sum().backward()
    optimizer.step()
    assert not torch.equal(network.square.weight, before)


def test_workers_share_out_the_matrices_and_together_compute_all_of_them() -> None:
    sums: list[Tensor] = []

    class Recording(ProcessGroup):
        def sum(self, values: Tensor) -> Tensor:
            sums.append(values.clone())
            return values

    for rank, size in ((0, 1), (0, 3), (1, 3), (2, 3)):
        module = Network()
        state = TrainState(module=module, optimizer=make_optimizer(module, MUON, Recording(rank, size)))
        learn(state, range(1))
    whole, *shares = sums
    assert torch.equal(sum(shares[1:], shares[0]), whole)
    zeros = [share == 0 for share in shares]
    assert all(torch.all(a | b) for a, b in ((zeros[0], zeros[1]), (zeros[1], zeros[2])))


def test_the_rate_moves_in_all_groups() -> None:
    from infinity.training.optimizers.optimizer import set_learning_rate

    frozen, moving = new_state(), new_state()
    set_learning_rate(frozen.optimizer, 0.0)
    before = [weight.detach().clone() for weight in frozen.module.parameters()]
    learn(frozen, range(2))
    learn(moving, range(2))
    assert all(torch.equal(a, b) for a, b in zip(before, frozen.module.parameters(), strict=True))
    assert all(not torch.equal(a, b) for a, b in zip(before, moving.module.parameters(), strict=True))


def test_names_of_finished_trainings_do_not_change() -> None:
    adamw = MUON.replace(algorithm="adamw")
    assert "algorithm" not in adamw.identity()
    assert MUON.identity()["algorithm"] == "muon"
    assert OptimizerConfig.from_json({"learning_rate": 1e-2}).algorithm == "adamw"


def test_what_muon_cannot_do_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="8-bit moments are made for AdamW"):
        MUON.replace(states="8bit")
    spec: TrainTransformerSpec = end_to_end("mini", source=None, output="/nowhere").pretrain
    spec = spec.replace(optimizer=MUON)
    with pytest.raises(ValueError, match=r"optimizer.algorithm 'muon' with workers.shard"):
        spec.replace(workers=spec.workers.replace(shard=True))
