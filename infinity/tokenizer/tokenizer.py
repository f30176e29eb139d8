"""The whole tokenizer: encoder, multi-scale residual quantizer, decoder (paper 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infinity.bits import BitLabels
from infinity.budget import WORKING_BYTES, in_passes, per_pass, tell_bands, working_bytes
from infinity.ranges import Positive
from infinity.scales import ScaleSchedule
from infinity.tokenizer.autoencoder import AutoencoderConfig, Decoder, Encoder
from infinity.tokenizer.bands import decode_in_bands, encode_in_bands
from infinity.tokenizer.quantizer import (
    QuantizerKind,
    binary_entropy,
    brute_force_entropies,
    commitment,
    factorised_entropies,
    straight_through,
)
from infinity.tokenizer.residual import ResidualLoop
from infinity.tokenizer.self_correction import start_loop

_FIRST_LEVEL_MAPS = 7.5
"""Working memory of a pass, in float32 maps of the first level (measured with the published networks)."""

_SHARE_OF_BANDS = 4
"""Ratio of the budget to the working memory of a band; whole maps beside it may lie in the same memory."""

Entropies = Callable[[Tensor, float, QuantizerKind], tuple[Tensor, Tensor]]
"""Function of residuals, inverse temperature and quantizer that returns both entropy terms, in nats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerConfig(AutoencoderConfig):
    """Shape of a tokenizer: that of its networks, and the quantizer.

    Attributes:
        quantizer: Quantizer: "bsq" is binary spherical quantization, "lfq" lookup-free quantization.
        fold: Whether 2x2 positions become one token of four times the bits, as in the 8B model.
        inverse_temperature: Sharpness of the soft assignment in the entropy terms.
    """

    quantizer: QuantizerKind = "bsq"
    fold: bool = False
    inverse_temperature: Positive = 100.0

    @property
    def autoencoder(self) -> AutoencoderConfig:
        """Shape of the networks."""
        return AutoencoderConfig(**{field.name: getattr(self, field.name) for field in fields(AutoencoderConfig)})

    @property
    def token_bits(self) -> int:
        """Bits per token, which the transformer predicts."""
        return self.num_bits * (4 if self.fold else 1)

    @property
    def stride_px(self) -> int:
        """Side in pixels of the square that one token of the last scale covers."""
        return self.autoencoder.stride_px * (2 if self.fold else 1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Quantized:
    """Images as bits, and the sum of their codes.

    Attributes:
        labels: Bits of the tokens of all scales.
        summed_BCHW: Sum of the codes, float32; the decoder's input.
    """

    labels: BitLabels
    summed_BCHW: Float[Tensor, "B C H W"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenizerOutput:
    """Result of one training pass of the tokenizer; means are over the S scales that take part.

    Attributes:
        reconstruction_B3HW: Decoded pictures, not clamped, so that overshooting pixels keep their gradient.
        commitment: Mean squared distance of the normalised residuals to their codes, over channels and positions.
        entropy_per_sample: Mean entropy of the soft bits of a position, in nats per bit (0: every position is sure).
        entropy_batch: Entropy of the mean soft bits of the batch, in nats per bit (ln 2: both values equally common).
        usage_SC: Frequency of each bit at each scale, 0 to 1, without gradient.
        truncated_B3HW: Pictures decoded from the first scales alone, not clamped; None where not asked for, or where
            only one scale takes part.
    """

    reconstruction_B3HW: Float[Tensor, "B 3 H W"]
    commitment: Float[Tensor, ""]
    entropy_per_sample: Float[Tensor, ""]
    entropy_batch: Float[Tensor, ""]
    usage_SC: Float[Tensor, "S C"]
    truncated_B3HW: Float[Tensor, "B 3 H W"] | None = None

    def bit_entropy(self) -> float:
        """Return the mean entropy of the hard bits, in bits: 1 for equally common values, 0 for constant bits."""
        return float(binary_entropy(self.usage_SC).mean() / torch.log(torch.tensor(2.0)))


class Tokenizer(nn.Module):
    """Bitwise tokenizer: pictures to bits and back.

    Pixels are RGB in [-1, 1]. Quantization is float32, also under autocast.

    Example:
        >>> config = TokenizerConfig(
        ...     num_bits=8, base_width=8, encoder_multipliers=(1, 1), decoder_multipliers=(1, 1), num_downsamples=1
        ... )
        >>> tokenizer = Tokenizer(config)
        >>> tokenizer.init_weights(torch.Generator().manual_seed(0))
        >>> from infinity.scales import custom_schedule
    >>> schedule = custom_schedule(1.0, last_grid=(4, 4), num_scales=3)
        >>> images = torch.zeros(2, 3, *schedule.image_size_px(config.stride_px))
        >>> quantized = tokenizer.quantize(tokenizer.encode(images), schedule)
        >>> tuple(quantized.labels.bits_BLC.shape)  # 1 + 4 + 16 tokens of 8 bits
        (2, 21, 8)
        >>> tuple(tokenizer.decode_labels(quantized.labels).shape)
        (2, 3, 8, 8)
    """

    outer_layers: ClassVar[tuple[str, ...]] = (
        "encoder.conv_in",
        "encoder.conv_out",
        "decoder.conv_in",
        "decoder.conv_out",
    )
    """Layers that read or write pixels or codes; Muon leaves them to AdamW."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.autoencoder)
        self.decoder = Decoder(config.autoencoder)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def init_weights(self, generator: torch.Generator) -> None:
        """Draw all weights: convolutions uniform within 1 / sqrt(fan-in), torch's default."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                bound = (module.in_channels * module.kernel_size[0] * module.kernel_size[1]) ** -0.5
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                if module.bias is not None:
                    nn.init.uniform_(module.bias, -bound, bound, generator=generator)
            elif isinstance(module, nn.GroupNorm):
                module.reset_parameters()

    def encode(self, images_B3HW: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Compute continuous features.

        Without gradients the batch is cut into passes that fit a budget of memory (``infinity.budget``), and a picture
        that alone does not fit is encoded in bands of rows (``infinity.tokenizer.bands``).

        Raises:
            ValueError: The sides are not multiples of the stride.
        """
        stride = self.config.stride_px
        if images_B3HW.shape[-2] % stride or images_B3HW.shape[-1] % stride:
            found = tuple(images_B3HW.shape[-2:])
            raise ValueError(f"expected image sides in multiples of the stride of {stride} px, got {found}")
        bytes_each = self.pass_bytes(images_B3HW.shape[-2:])
        return _run(self.encoder, encode_in_bands, images_B3HW, bytes_each, "pictures encoded")

    @torch.no_grad()
    def quantize(self, features_BCHW: Float[Tensor, "B C h w"], schedule: ScaleSchedule) -> Quantized:
        """Quantize features to bits, and sum their codes, without gradient.

        Raises:
            ValueError: The features have another size than the schedule's.
        """
        loop = start_loop(features_BCHW, schedule, kind=self.config.quantizer, fold=self.config.fold)
        with torch.autocast(features_BCHW.device.type, enabled=False):
            bits = list(loop.label(features_BCHW.float()))
        return Quantized(labels=BitLabels.from_scales(schedule, bits), summed_BCHW=loop.total_BCHW)

    def decode(self, features_BCHW: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        """Decode the sum of codes (or raw features) to RGB, clamped to [-1, 1]; in passes and bands like ``encode``."""
        stride = self.config.autoencoder.stride_px
        rows, columns = features_BCHW.shape[-2:]
        bytes_each = self.pass_bytes((rows * stride, columns * stride))
        return _run(self.decoder, decode_in_bands, features_BCHW, bytes_each, "pictures decoded").clamp(-1.0, 1.0)

    def pass_bytes(self, image_size_px: tuple[int, int] | torch.Size) -> int:
        """Return about the working memory of one picture in a pass without gradients through encoder or decoder.

        Almost all of it are maps of the first level in float32.

        Args:
            image_size_px: Height and width of the picture.
        """
        config = self.config
        rows, columns = (side // config.stem_px for side in image_size_px)
        return int(4 * _FIRST_LEVEL_MAPS * config.base_width * rows * columns)

    def start_loop(self, schedule: ScaleSchedule, batch_size: int) -> ResidualLoop:
        """Return a residual loop at zero, to which generation adds the bits scale by scale."""
        config, device = self.config, next(self.parameters()).device
        return ResidualLoop(
            schedule,
            batch_size=batch_size,
            num_bits=config.num_bits,
            kind=config.quantizer,
            fold=config.fold,
            device=device,
        )

    def sum_codes(self, labels: BitLabels) -> Float[Tensor, "B C h w"]:
        """Return the sum of the codes of bits, the decoder's input.

        Raises:
            ValueError: The labels have another number of bits.
        """
        if labels.num_bits != self.config.token_bits:
            raise ValueError(f"expected labels of {self.config.token_bits} bits per token, got {labels.num_bits}")
        loop = self.start_loop(labels.schedule, labels.batch_size)
        for k in range(labels.schedule.num_scales):
            loop.add(labels.scale(k))
        return loop.total_BCHW

    def decode_labels(self, labels: BitLabels) -> Float[Tensor, "B 3 H W"]:
        """Decode bits to RGB, clamped to [-1, 1]."""
        return self.decode(self.sum_codes(labels))

    @torch.no_grad()
    def reconstruct(self, images_B3HW: Float[Tensor, "B 3 H W"], schedule: ScaleSchedule) -> Float[Tensor, "B 3 H W"]:
        """Encode, quantize and decode pictures."""
        return self.decode(self.quantize(self.encode(images_B3HW), schedule).summed_BCHW)

    def forward(
        self,
        images_B3HW: Float[Tensor, "B 3 H W"],
        schedule: ScaleSchedule,
        *,
        keep_probability: float = 1.0,
        truncate: bool = False,
        all_codes: bool = False,
        generator: torch.Generator | None = None,
    ) -> TokenizerOutput:
        """Run one training pass with straight-through gradients through the whole residual chain.

        Args:
            images_B3HW: RGB in [-1, 1], of the schedule's size in pixels.
            schedule: Grids of the tokens; denser in training than later.
            keep_probability: Probability that a scale, except the last, takes part, drawn for the whole batch; 0.5 in
                the published recipe, so that one tokenizer serves many schedules.
            truncate: Whether to decode a second picture from the first scales alone; their number is drawn for the
                whole batch.
            all_codes: Whether the entropy terms compare every position with all 2**C codes, as LFQ does (paper Table
                3), instead of bit by bit.
            generator: Source of these draws, on the CPU.
        """
        features = self.encode(images_B3HW)
        kept = _draw_kept(schedule.num_scales, keep_probability, generator)
        cut = int(torch.randint(1, len(kept), (), generator=generator)) if truncate and len(kept) > 1 else 0
        with torch.autocast(features.device.type, enabled=False):
            (early, summed), terms, usage = self._quantize_with_gradient(
                features.float(), schedule, kept, cut, brute_force_entropies if all_codes else factorised_entropies
            )
        return TokenizerOutput(
            truncated_B3HW=self.decoder(early) if cut else None,
            reconstruction_B3HW=self.decoder(summed),
            commitment=terms[0],
            entropy_per_sample=terms[1],
            entropy_batch=terms[2],
            usage_SC=usage,
        )

    def _quantize_with_gradient(
        self, features: Tensor, schedule: ScaleSchedule, kept: list[int], cut: int, entropies: Entropies
    ) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Return the sums of codes of the first ``cut`` scales and of all, the three terms, and the usage of bits."""
        config = self.config
        loop = start_loop(features, schedule, kind=config.quantizer, fold=config.fold)
        early = loop.total_BCHW
        terms, usage = [], []
        for number, k in enumerate(kept, start=1):
            codes, unit = straight_through(loop.residual(k, features), config.quantizer)
            loop.add_codes(codes)
            sure, spread = entropies(unit, config.inverse_temperature, config.quantizer)
            terms.append(torch.stack([commitment(unit, codes), sure / config.num_bits, spread / config.num_bits]))
            usage.append((codes.detach() > 0).float().mean(dim=(0, 2, 3)))
            if number == cut:
                early = loop.total_BCHW.clone()  # later additions without gradient change the sum in place
        return (early, loop.total_BCHW), torch.stack(terms).mean(dim=0), torch.stack(usage)


_Network = TypeVar("_Network", bound=nn.Module)


def _run(
    network: _Network, in_bands: Callable[[_Network, Tensor, int], Tensor], batch: Tensor, bytes_each: int, what: str
) -> Tensor:
    """Run a network over a batch; without gradients in passes, or in bands of rows, that fit the budget."""
    if torch.is_grad_enabled():
        result: Tensor = network(batch)
        return result
    budget = working_bytes(batch.device, WORKING_BYTES)
    if bytes_each > budget:
        tell_bands(bytes_each, budget, what=what)
        return in_passes(lambda one: in_bands(network, one, budget // _SHARE_OF_BANDS), batch, 1)
    return in_passes(network, batch, per_pass(len(batch), bytes_each, budget, what=what))


def _draw_kept(num_scales: int, keep_probability: float, generator: torch.Generator | None) -> list[int]:
    """Draw the scales that take part; the last always does."""
    if not 0.0 <= keep_probability <= 1.0:
        raise ValueError(f"keep_probability: expected a probability from 0 to 1, got {keep_probability}")
    if keep_probability == 1.0:
        return list(range(num_scales))
    draws = torch.rand(num_scales - 1, generator=generator).tolist()
    return [k for k, draw in enumerate(draws) if draw < keep_probability] + [num_scales - 1]
