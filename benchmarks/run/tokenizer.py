"""Items c, d and e: residual quantizer, self-correction inputs, decoder and encoder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.measuring.timing import Item
from infinity.scales import ScaleSchedule, Size, published_schedule
from infinity.tokenizer import Tokenizer, TokenizerConfig, draw_flips, teacher_forcing

BATCH = 4
NUM_BITS = 32
GRIDS: tuple[tuple[int, Size], ...] = ((16, "256"), (64, "1024"))


def items() -> list[Item]:
    """Return everything that is timed here."""
    found = []
    for side, schedule in ((side, published_schedule(1.0, size)) for side, size in GRIDS):
        about = {"batch": BATCH, "num_bits": NUM_BITS, "num_scales": schedule.num_scales}
        noisy = {**about, "max_rate": 0.3}
        found += [
            Item("c", f"quantizer_{side}x{side}", about, partial(prepare_quantizer, schedule)),
            Item("d", f"self_correction_{side}x{side}", noisy, partial(prepare_self_correction, schedule)),
        ]
    about = {"batch": 1, "num_bits": NUM_BITS, "base_width": 128}
    networks = {"decoder": prepare_decoder, "encoder": prepare_encoder}
    return found + [Item("e", f"{name}_256px", about, partial(prepare, 256, 128)) for name, prepare in networks.items()]


def prepare_quantizer(schedule: ScaleSchedule) -> Callable[[], object]:
    """Prepare a run that computes bits of all scales and the sum of their codes."""
    features, tokenizer = random_features(schedule), codes_alone(NUM_BITS)
    return lambda: tokenizer.quantize(features, schedule)


def prepare_self_correction(schedule: ScaleSchedule) -> Callable[[], object]:
    """Drawn flips, then inputs and labels of a training step of the transformer."""
    features, generator = random_features(schedule), torch.Generator().manual_seed(0)

    def run() -> object:
        flips = draw_flips(schedule, batch_size=BATCH, num_bits=NUM_BITS, max_rate=0.3, generator=generator)
        return teacher_forcing(features, schedule, flips=flips)

    return run


def prepare_decoder(side_px: int, base_width: int) -> Callable[[], object]:
    """Prepare a run that decodes one picture from the sum of its codes, at the published shape of stride 16."""
    tokenizer = random_tokenizer(base_width)
    side = side_px // tokenizer.config.stride_px
    codes = torch.randn(1, NUM_BITS, side, side, generator=torch.Generator().manual_seed(0)) * NUM_BITS**-0.5

    @torch.no_grad()
    def run() -> object:
        return tokenizer.decode(codes)

    return run


def prepare_encoder(side_px: int, base_width: int) -> Callable[[], object]:
    """Prepare a run that encodes one picture, at the published shape of stride 16."""
    tokenizer = random_tokenizer(base_width)
    picture = torch.rand(1, 3, side_px, side_px, generator=torch.Generator().manual_seed(0)) * 2 - 1

    @torch.no_grad()
    def run() -> object:
        return tokenizer.encode(picture)

    return run


def random_tokenizer(base_width: int) -> Tokenizer:
    """Return a tokenizer of the published shape, freshly initialised."""
    tokenizer = Tokenizer(TokenizerConfig(num_bits=NUM_BITS, base_width=base_width)).eval()
    tokenizer.init_weights(torch.Generator().manual_seed(0))
    return tokenizer


def codes_alone(num_bits: int) -> Tokenizer:
    """Return a tokenizer whose codes alone are used: they have no weights, and the networks around are the smallest."""
    plain = TokenizerConfig(
        num_bits=num_bits, base_width=8, encoder_multipliers=(1,), decoder_multipliers=(1,), num_downsamples=0
    )
    return Tokenizer(plain)


def random_features(schedule: ScaleSchedule) -> Tensor:
    """Return what an encoder might give for the schedule's last grid."""
    return torch.randn(BATCH, NUM_BITS, *schedule.last_grid, generator=torch.Generator().manual_seed(0))
