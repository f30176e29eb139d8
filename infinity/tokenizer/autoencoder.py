"""Convolutional autoencoder of the tokenizer (paper 2.1; repository infinity/models/bsq_vae/flux_vqgan.py).

Plain residual networks with group norm and swish, no attention. Level i works at 1 / 2**i of the size and has width
``base_width * multipliers[i]``; the latent has one channel per bit. Maps use the memory format channels-last, in which
convolutions run fastest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from infinity.config import Config
from infinity.kernels.upsample import doubled_conv
from infinity.ranges import Range


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderConfig(Config):
    """Shape of encoder and decoder.

    Attributes:
        num_bits: Channels of the latent, one per bit of a position.
        base_width: Width of the first level; 128 in the released tokenizers.
        encoder_multipliers: Ratio of each encoder level's width to ``base_width``.
        decoder_multipliers: Ratio of each decoder level's width to ``base_width``.
        num_res_blocks: Residual blocks per encoder level; a decoder level has one more.
        num_downsamples: Number of halvings; 4 in the released tokenizers, 3 in that of the 8B model.
        stem_px: Side of the pixel squares that become channels before the first convolution. 1 is the published
            network; 2 quarters the work of the first level, which is most of the work of a small network.
        norm_groups: Groups of every group norm; None for the published rule. That rule normalises every channel of a
            width of 32 on its own, and so hides flat colours from small networks.
    """

    num_bits: Annotated[int, Range(1, 1024)]
    base_width: Annotated[int, Range(1, 2**16)] = 128
    encoder_multipliers: tuple[int, ...] = (1, 2, 4, 4, 4)
    decoder_multipliers: tuple[int, ...] = (1, 2, 4, 4, 4)
    num_res_blocks: Annotated[int, Range(1, 100)] = 2
    num_downsamples: Annotated[int, Range(0, 16)] = 4
    stem_px: Annotated[int, Range(1, 64)] = 1
    norm_groups: int | None = None

    def __post_init__(self) -> None:
        for name in ("encoder_multipliers", "decoder_multipliers"):
            multipliers = getattr(self, name)
            if not self.num_downsamples < len(multipliers) <= 64 or not all(1 <= m <= 1024 for m in multipliers):
                expected = (
                    f"{self.num_downsamples + 1} to 64 numbers from 1 to 1024 for {self.num_downsamples} halvings"
                )
                raise ValueError(f"{name}: expected {expected}, got {multipliers!s:.80}")
            for multiplier in multipliers:
                num_groups(self.base_width * multiplier, self.norm_groups)

    @property
    def stride_px(self) -> int:
        """Side of the square of pixels that one latent position covers."""
        return self.stem_px * int(2**self.num_downsamples)


def num_groups(width: int, groups: int | None) -> int:
    """Return the number of groups of a group norm.

    The published rule is 32, or 24 where only 24 divides the width. Widths that neither divides do not occur in
    published networks; they get the largest power of two with at least four channels per group.

    Raises:
        ValueError: The groups do not divide the width.
    """
    if groups is not None:
        if groups < 1 or width % groups:
            raise ValueError(f"norm_groups: expected a divisor of the width {width}, got {groups}")
        return groups
    for published in (32, 24):
        if width % published == 0:
            return published
    groups = 1
    while width % (2 * groups) == 0 and width >= 8 * groups:
        groups *= 2
    return groups


class ResidualBlock(nn.Module):
    """Residual block: twice norm, swish and 3x3 convolution, plus a shortcut."""

    def __init__(self, in_width: int, out_width: int, groups: int | None) -> None:
        super().__init__()
        self.norm_1 = group_norm(in_width, groups)
        self.conv_1 = nn.Conv2d(in_width, out_width, 3, padding=1)
        self.norm_2 = group_norm(out_width, groups)
        self.conv_2 = nn.Conv2d(out_width, out_width, 3, padding=1)
        self.shortcut = nn.Conv2d(in_width, out_width, 1) if in_width != out_width else nn.Identity()

    def forward(self, x_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B E H W"]:
        """Return a map of the same size; the width may change."""
        hidden: Tensor = self.conv_1(swish(self.norm_1(x_BDHW)))
        hidden = self.conv_2(swish(self.norm_2(hidden)))
        hidden += self.shortcut(x_BDHW)
        return hidden


class Downsample(nn.Module):
    """Halve the size: one pixel of zeros right and below, then a 3x3 convolution of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x_BDHW: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D h w"]:
        """Map size (H, W) to (H / 2, W / 2)."""
        halved: Tensor = self.conv(F.pad(x_BDHW, (0, 1, 0, 1)))
        return halved


class Upsample(nn.Module):
    """Double the size by repeating every pixel, then a 3x3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x_BDhw: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D H W"]:
        """Map size (h, w) to (2 h, 2 w)."""
        return doubled_conv(x_BDhw, self.conv)


class Encoder(nn.Module):
    """Encoder: RGB in [-1, 1] to a latent with one channel per bit."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = [config.base_width * m for m in config.encoder_multipliers]
        self.stem_px = config.stem_px
        groups = config.norm_groups
        self.conv_in = nn.Conv2d(3 * config.stem_px**2, widths[0], 3, padding=1)
        self.levels = nn.ModuleList()
        for index, width in enumerate(widths):
            before = widths[max(index - 1, 0)]
            sizes = [before] + [width] * (config.num_res_blocks - 1)
            layers: list[nn.Module] = [ResidualBlock(size, width, groups) for size in sizes]
            if index < config.num_downsamples:
                layers.append(Downsample(width))
            self.levels.append(nn.Sequential(*layers))
        self.middle = nn.Sequential(*(ResidualBlock(widths[-1], widths[-1], groups) for _ in range(2)))
        self.norm_out = group_norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], config.num_bits, 3, padding=1)

    def forward(self, images_B3HW: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Encode pictures; (h, w) is (H, W) over the stride."""
        pixels = F.pixel_unshuffle(images_B3HW, self.stem_px) if self.stem_px > 1 else images_B3HW
        hidden = self.conv_in(pixels.contiguous(memory_format=torch.channels_last))
        for level in self.levels:
            hidden = level(hidden)
        features: Tensor = self.conv_out(swish(self.norm_out(self.middle(hidden))))
        return features


class Decoder(nn.Module):
    """Decoder: the sum of all codes to RGB, not clamped."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = [config.base_width * m for m in config.decoder_multipliers]
        self.stem_px = config.stem_px
        groups = config.norm_groups
        self.conv_in = nn.Conv2d(config.num_bits, widths[-1], 3, padding=1)
        self.middle = nn.Sequential(*(ResidualBlock(widths[-1], widths[-1], groups) for _ in range(2)))
        self.levels = nn.ModuleList()  # in the encoder's order; ``forward`` runs them from last to first
        for index, width in enumerate(widths):
            before = widths[min(index + 1, len(widths) - 1)]
            sizes = [before] + [width] * config.num_res_blocks
            layers: list[nn.Module] = [ResidualBlock(size, width, groups) for size in sizes]
            if 1 <= index <= config.num_downsamples:
                layers.append(Upsample(width))
            self.levels.append(nn.Sequential(*layers))
        self.norm_out = group_norm(widths[0], groups)
        self.conv_out = nn.Conv2d(widths[0], 3 * config.stem_px**2, 3, padding=1)

    def forward(self, features_BCHW: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        """Decode sums of codes; (H, W) is (h, w) times the stride."""
        hidden = self.middle(self.conv_in(features_BCHW.contiguous(memory_format=torch.channels_last)))
        for level in reversed(self.levels):
            hidden = level(hidden)
        pixels: Tensor = self.conv_out(swish(self.norm_out(hidden)))
        return F.pixel_shuffle(pixels, self.stem_px) if self.stem_px > 1 else pixels


def swish(x: Tensor) -> Tensor:
    """Compute x * sigmoid(x); without gradients it overwrites its argument, which saves memory (decision 10)."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def group_norm(width: int, groups: int | None) -> nn.GroupNorm:
    """Return a group norm with the epsilon of the published networks."""
    return nn.GroupNorm(num_groups(width, groups), width, eps=1e-6)
