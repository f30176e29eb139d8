"""The whole tokenizer: encoder, multi-scale residual quantizer, decoder (paper 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infinity.bits import BitLabels
from infinity.config import Config
from infinity.scales import ScaleSchedule
from infinity.tokenizer.autoencoder import AutoencoderConfig, Decoder, Encoder
from infinity.tokenizer.quantizer import (
    QuantizerKind,
    binary_entropy,
    commitment,
    factorised_entropies,
    straight_through,
)
from infinity.tokenizer.residual import ResidualLoop
from infinity.tokenizer.self_correction import start_loop


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerConfig(Config):
    """An autoencoder with its quantizer; the fields of the networks are those of ``AutoencoderConfig``.

    Attributes:
        num_bits: Bits of one position of the latent.
        base_width: Width of the first level of encoder and decoder.
        encoder_multipliers: Width of each encoder level over ``base_width``.
        decoder_multipliers: Width of each decoder level over ``base_width``.
        num_res_blocks: Residual blocks of an encoder level; a decoder level has one more.
        num_downsamples: Halvings.
        stem_px: Side of the pixel squares that become channels before the first convolution.
        norm_groups: Groups of every group norm; None is the published rule.
        quantizer: Binary spherical (default) or lookup-free.
        fold: Whether 2x2 positions become one token of four times the bits, as the 8B model has it.
        inverse_temperature: Sharpness of the soft assignment in the entropy terms.
    """

    num_bits: int
    base_width: int = 128
    encoder_multipliers: tuple[int, ...] = (1, 2, 4, 4, 4)
    decoder_multipliers: tuple[int, ...] = (1, 2, 4, 4, 4)
    num_res_blocks: int = 2
    num_downsamples: int = 4
    stem_px: int = 1
    norm_groups: int | None = None
    quantizer: QuantizerKind = "bsq"
    fold: bool = False
    inverse_temperature: float = 100.0

    def __post_init__(self) -> None:
        _ = self.autoencoder
        if self.inverse_temperature <= 0:
            raise ValueError(f"inverse_temperature: expected more than 0, got {self.inverse_temperature}")

    @property
    def autoencoder(self) -> AutoencoderConfig:
        """Shape of the networks."""
        return AutoencoderConfig(
            num_bits=self.num_bits,
            base_width=self.base_width,
            encoder_multipliers=self.encoder_multipliers,
            decoder_multipliers=self.decoder_multipliers,
            num_res_blocks=self.num_res_blocks,
            num_downsamples=self.num_downsamples,
            stem_px=self.stem_px,
            norm_groups=self.norm_groups,
        )

    @property
    def token_bits(self) -> int:
        """Bits of one token: what the transformer predicts at every position."""
        return self.num_bits * (4 if self.fold else 1)

    @property
    def stride_px(self) -> int:
        """Side of the square of pixels that one token of the last scale covers."""
        return self.autoencoder.stride_px * (2 if self.fold else 1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Quantized:
    """An image as bits, and the sum of their codes.

    Attributes:
        labels: Bits of the tokens of all scales.
        summed_BCHW: What the decoder reads, float32.
    """

    labels: BitLabels
    summed_BCHW: Float[Tensor, "B C H W"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenizerOutput:
    """One training pass of the tokenizer; means are over the scales that were kept, called S.

    Attributes:
        reconstruction_B3HW: Decoded pictures, not clamped, so that overshooting pixels keep their gradient.
        commitment: Mean squared distance of the normalised residuals to their codes, over channels and positions.
        entropy_per_sample: Mean entropy of the soft bits of a position, in nats a bit (0: every position is sure).
        entropy_batch: Entropy of the mean soft bits of the batch, in nats a bit (ln 2: both values equally common).
        usage_SC: How often each bit is set at each kept scale, 0 to 1, without gradient.
        truncated_B3HW: Decoded from the first kept scales alone, not clamped; None where that was not asked for, or
            only one scale was kept.
    """

    reconstruction_B3HW: Float[Tensor, "B 3 H W"]
    commitment: Float[Tensor, ""]
    entropy_per_sample: Float[Tensor, ""]
    entropy_batch: Float[Tensor, ""]
    usage_SC: Float[Tensor, "S C"]
    truncated_B3HW: Float[Tensor, "B 3 H W"] | None = None

    def bit_entropy(self) -> float:
        """Mean entropy of the hard bits, in bits: 1 where both values are equally common, 0 where bits are constant."""
        return float(binary_entropy(self.usage_SC).mean() / torch.log(torch.tensor(2.0)))


class Tokenizer(nn.Module):
    """Images to bits and back. Pixels are RGB in [-1, 1]; quantization runs in float32 whatever the autocast."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.autoencoder)
        self.decoder = Decoder(config.autoencoder)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def init_weights(self, generator: torch.Generator) -> None:
        """Fill all weights from ``generator``: convolutions uniform within 1 / sqrt(fan-in), torch's default."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                bound = (module.in_channels * module.kernel_size[0] * module.kernel_size[1]) ** -0.5
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                if module.bias is not None:
                    nn.init.uniform_(module.bias, -bound, bound, generator=generator)
            elif isinstance(module, nn.GroupNorm):
                module.reset_parameters()

    def encode(self, images_B3HW: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Continuous features.

        Raises:
            ValueError: Sides that are not multiples of the stride.
        """
        stride = self.config.stride_px
        if images_B3HW.shape[-2] % stride or images_B3HW.shape[-1] % stride:
            found = tuple(images_B3HW.shape[-2:])
            raise ValueError(f"expected image sides in multiples of the stride of {stride} px, got {found}")
        features: Tensor = self.encoder(images_B3HW)
        return features

    @torch.no_grad()
    def quantize(self, features_BCHW: Float[Tensor, "B C h w"], schedule: ScaleSchedule) -> Quantized:
        """Bits and the sum of codes of features, without gradient.

        Raises:
            ValueError: Features of another size than the schedule's.
        """
        loop = start_loop(features_BCHW, schedule, kind=self.config.quantizer, fold=self.config.fold)
        with torch.autocast(features_BCHW.device.type, enabled=False):
            bits = list(loop.label(features_BCHW.float()))
        return Quantized(labels=BitLabels.from_scales(schedule, bits), summed_BCHW=loop.total_BCHW)

    def decode(self, features_BCHW: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        """RGB clamped to [-1, 1], from the sum of codes (or from raw features)."""
        pixels: Tensor = self.decoder(features_BCHW)
        return pixels.clamp(-1.0, 1.0)

    def start_loop(self, schedule: ScaleSchedule, batch_size: int) -> ResidualLoop:
        """A residual loop at zero, to which generation adds the bits of one scale after the other."""
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
        """The sum of codes that bits stand for: what the decoder reads.

        Raises:
            ValueError: Labels of another number of bits.
        """
        if labels.num_bits != self.config.token_bits:
            raise ValueError(f"expected labels of {self.config.token_bits} bits a token, got {labels.num_bits}")
        loop = self.start_loop(labels.schedule, labels.batch_size)
        for k in range(labels.schedule.num_scales):
            loop.add(labels.scale(k))
        return loop.total_BCHW

    def decode_labels(self, labels: BitLabels) -> Float[Tensor, "B 3 H W"]:
        """RGB clamped to [-1, 1] from bits."""
        return self.decode(self.sum_codes(labels))

    @torch.no_grad()
    def reconstruct(self, images_B3HW: Float[Tensor, "B 3 H W"], schedule: ScaleSchedule) -> Float[Tensor, "B 3 H W"]:
        """Encode, quantize, decode."""
        return self.decode(self.quantize(self.encode(images_B3HW), schedule).summed_BCHW)

    def forward(
        self,
        images_B3HW: Float[Tensor, "B 3 H W"],
        schedule: ScaleSchedule,
        *,
        keep_probability: float = 1.0,
        truncate: bool = False,
        generator: torch.Generator | None = None,
    ) -> TokenizerOutput:
        """One training pass: gradients flow through the whole residual chain, straight through the codes.

        Args:
            images_B3HW: RGB in [-1, 1], of the schedule's size in pixels.
            schedule: Grids of the tokens; training wants denser ones than use.
            keep_probability: Every scale but the last takes part with this probability, drawn for the whole batch; 0.5
                in the published recipe, so that one tokenizer serves many schedules.
            truncate: Whether to decode a second picture from the first of the kept scales alone, how many of them is
                drawn for the whole batch: what early scales say by themselves.
            generator: Source of these draws, on the CPU.
        """
        features = self.encode(images_B3HW)
        kept = _draw_kept(schedule.num_scales, keep_probability, generator)
        cut = int(torch.randint(1, len(kept), (), generator=generator)) if truncate and len(kept) > 1 else 0
        with torch.autocast(features.device.type, enabled=False):
            (early, summed), terms, usage = self._quantize_with_gradient(features.float(), schedule, kept, cut)
        return TokenizerOutput(
            truncated_B3HW=self.decoder(early) if cut else None,
            reconstruction_B3HW=self.decoder(summed),
            commitment=terms[0],
            entropy_per_sample=terms[1],
            entropy_batch=terms[2],
            usage_SC=usage,
        )

    def _quantize_with_gradient(
        self, features: Tensor, schedule: ScaleSchedule, kept: list[int], cut: int
    ) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Sums of the codes of the first ``cut`` kept scales and of all, the three terms, and the usage of bits."""
        config = self.config
        loop = start_loop(features, schedule, kind=config.quantizer, fold=config.fold)
        early = loop.total_BCHW
        terms, usage = [], []
        for number, k in enumerate(kept, start=1):
            codes, unit = straight_through(loop.residual(k, features), config.quantizer)
            loop.add_codes(codes)
            sure, spread = factorised_entropies(unit, config.inverse_temperature, config.quantizer)
            terms.append(torch.stack([commitment(unit, codes), sure / config.num_bits, spread / config.num_bits]))
            usage.append((codes.detach() > 0).float().mean(dim=(0, 2, 3)))
            if number == cut:
                early = loop.total_BCHW.clone()  # additions without gradient change it in place
        return (early, loop.total_BCHW), torch.stack(terms).mean(dim=0), torch.stack(usage)


def _draw_kept(num_scales: int, keep_probability: float, generator: torch.Generator | None) -> list[int]:
    """The scales that take part; the last always does."""
    if not 0.0 <= keep_probability <= 1.0:
        raise ValueError(f"keep_probability: expected a share from 0 to 1, got {keep_probability}")
    if keep_probability == 1.0:
        return list(range(num_scales))
    draws = torch.rand(num_scales - 1, generator=generator).tolist()
    return [k for k, draw in enumerate(draws) if draw < keep_probability] + [num_scales - 1]
