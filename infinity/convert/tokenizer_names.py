"""Translation of published tokenizers' tensor names to ours (names and shapes: goldens README, section 2)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from infinity.checkpoint import CheckpointError
from infinity.convert.entries import Entry, count_numbered, shape_of
from infinity.tokenizer import TokenizerConfig

_UNWRAPPED = re.compile(
    r"(?P<path>(?:encoder|decoder)\..*?)(?P<layer>conv_in|conv_out|norm_out|conv[12]|norm[12]|nin_shortcut|"
    r"(?:down|up)sample\.conv)\.(?P<end>weight|bias)"
)
_DERIVED = re.compile(r"quantizer?\.lfq\.(?:codebook|zero)")
"""Derived buffers that some versions of the quantizer stored: the codes of all bit patterns, and a zero."""


def with_usual_names(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names of released files.

    The published loader also accepts convolutions and norms without the wrapper's extra level of names, and ignores
    buffers of the quantizer that follow from the number of bits.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in published.items():
        if _DERIVED.fullmatch(name):
            continue
        match = _UNWRAPPED.fullmatch(name)
        wrap = "" if match is None else ".norm" if "norm" in match["layer"] else ".conv"
        usual = name if match is None else f"{match['path']}{match['layer']}{wrap}.{match['end']}"
        if usual not in published:
            name = usual
        found[name] = tensor
    return found


def infer_tokenizer_config(published: Mapping[str, Tensor], *, where: str, fold: bool = False) -> TokenizerConfig:
    """Infer the configuration from shapes; the base width is the greatest common divisor of all widths.

    Args:
        published: Tensors by published name.
        where: Name of the source in error messages.
        fold: Whether 2x2 positions are folded into a token (8B model), which cannot be inferred from shapes.

    Raises:
        CheckpointError: A tensor is missing, or the shapes fit no configuration.
    """
    encoder, decoder = (_level_widths(published, prefix, where) for prefix in ("encoder.down.", "decoder.up."))
    base_width = math.gcd(*encoder, *decoder)
    halving = {level for level in range(len(encoder)) if count_numbered(published, f"encoder.down.{level}.downsample.")}
    try:
        return TokenizerConfig(
            num_bits=shape_of(published, "encoder.conv_out.conv.weight", 4, where=where)[0],
            base_width=base_width,
            encoder_multipliers=tuple(width // base_width for width in encoder),
            decoder_multipliers=tuple(width // base_width for width in decoder),
            num_res_blocks=count_numbered(published, "encoder.down.0.block."),
            num_downsamples=len(halving),
            fold=fold,
        )
    except ValueError as error:
        raise CheckpointError(f"{where}: the tensors' shapes fit no tokenizer: {error}") from error


def tokenizer_entries(config: TokenizerConfig) -> list[Entry]:
    """Return the translation table of a configuration, in the order of published files.

    Raises:
        CheckpointError: The published format cannot hold the configuration.
    """
    if config.stem_px != 1 or config.norm_groups is not None or config.quantizer != "bsq":
        raise CheckpointError(
            "published tokenizers have stem_px=1, the published rule for norm groups and quantizer 'bsq'; found "
            f"stem_px={config.stem_px}, norm_groups={config.norm_groups}, quantizer={config.quantizer!r}"
        )
    return [*_encoder(config), *_decoder(config), *_masks(config.num_bits)]


def _encoder(config: TokenizerConfig) -> Iterator[Entry]:
    widths = [config.base_width * multiplier for multiplier in config.encoder_multipliers]
    yield from _conv("encoder.conv_in", "encoder.conv_in", 3, widths[0])
    for level, width in enumerate(widths):
        there, here = f"encoder.down.{level}.", f"encoder.levels.{level}."
        sizes = [widths[max(level - 1, 0)]] + [width] * (config.num_res_blocks - 1)
        for index, size in enumerate(sizes):
            yield from _block(f"{there}block.{index}.", f"{here}{index}.", size, width)
        if level < config.num_downsamples:
            yield from _conv(f"{there}downsample.conv", f"{here}{len(sizes)}.conv", width, width)
    yield from _ends("encoder", widths[-1], widths[-1], config.num_bits)


def _decoder(config: TokenizerConfig) -> Iterator[Entry]:
    widths = [config.base_width * multiplier for multiplier in config.decoder_multipliers]
    yield from _conv("decoder.conv_in", "decoder.conv_in", config.num_bits, widths[-1])
    middle_and_end = list(_ends("decoder", widths[-1], widths[0], 3))
    num_middle = len(middle_and_end) - 4
    yield from middle_and_end[:num_middle]
    for level, width in enumerate(widths):
        there, here = f"decoder.up.{level}.", f"decoder.levels.{level}."
        sizes = [widths[min(level + 1, len(widths) - 1)]] + [width] * config.num_res_blocks
        for index, size in enumerate(sizes):
            yield from _block(f"{there}block.{index}.", f"{here}{index}.", size, width)
        if 1 <= level <= config.num_downsamples:
            yield from _conv(f"{there}upsample.conv", f"{here}{len(sizes)}.conv", width, width)
    yield from middle_and_end[num_middle:]


def _ends(name: str, middle_width: int, out_width: int, num_outputs: int) -> Iterator[Entry]:
    """Yield two residual blocks in the middle, then the four tensors of the last norm and convolution."""
    for index in range(2):
        yield from _block(f"{name}.mid.block_{index + 1}.", f"{name}.middle.{index}.", middle_width, middle_width)
    yield from _norm(f"{name}.norm_out", f"{name}.norm_out", out_width)
    yield from _conv(f"{name}.conv_out", f"{name}.conv_out", out_width, num_outputs)


def _block(there: str, here: str, in_width: int, out_width: int) -> Iterator[Entry]:
    yield from _norm(f"{there}norm1", f"{here}norm_1", in_width)
    yield from _conv(f"{there}conv1", f"{here}conv_1", in_width, out_width)
    yield from _norm(f"{there}norm2", f"{here}norm_2", out_width)
    yield from _conv(f"{there}conv2", f"{here}conv_2", out_width, out_width)
    if in_width != out_width:
        yield from _conv(f"{there}nin_shortcut", f"{here}shortcut", in_width, out_width, side=1)


def _conv(there: str, here: str, in_width: int, out_width: int, side: int = 3) -> Iterator[Entry]:
    yield Entry(f"{there}.conv.weight", (out_width, in_width, side, side), (f"{here}.weight",))
    yield Entry(f"{there}.conv.bias", (out_width,), (f"{here}.bias",))


def _norm(there: str, here: str, width: int) -> Iterator[Entry]:
    yield Entry(f"{there}.norm.weight", (width,), (f"{here}.weight",))
    yield Entry(f"{there}.norm.bias", (width,), (f"{here}.bias",))


def _masks(num_bits: int) -> Iterator[Entry]:
    """Yield the powers of two, highest first, stored under two names; the 64th wraps around in int64."""
    for name in ("quantizer.lfq.mask", "quantize.lfq.mask"):
        yield Entry(name, (num_bits,), (), lambda _file: 2 ** torch.arange(num_bits - 1, -1, -1))


def _level_widths(published: Mapping[str, Tensor], prefix: str, where: str) -> list[int]:
    num_levels = count_numbered(published, prefix)
    first = shape_of(published, f"{prefix}0.block.0.conv1.conv.weight", 4, where=where)[0]
    rest = (
        shape_of(published, f"{prefix}{level}.block.0.conv1.conv.weight", 4, where=where)[0]
        for level in range(1, num_levels)
    )
    return [first, *rest]
