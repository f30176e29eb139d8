"""Pack an edited picture's bits into the settings of a picture, and unpack them."""

from __future__ import annotations

import base64
import binascii
import zlib

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from infinity.bits import BitLabels
from infinity.generation.files.picture_files import EditRecord
from infinity.scales import ScaleSchedule


def edit_record(source: BitLabels, kept_L: Bool[Tensor, " L"]) -> EditRecord:
    """Return the record of an edit of one picture."""
    return EditRecord(source_bits=_pack(source.bits_BLC[0].cpu()), kept_tokens=_pack(kept_L.cpu()))


def recorded_bits(record: EditRecord, schedule: ScaleSchedule, num_bits: int) -> tuple[BitLabels, Bool[Tensor, " L"]]:
    """Return the edited picture's bits and the mask of its kept tokens.

    Raises:
        ValueError: The record is damaged, or of other grids or another tokenizer.
    """
    tokens = schedule.num_tokens
    bits = _unpack(record.source_bits, tokens * num_bits).reshape(1, tokens, num_bits)
    return BitLabels(schedule, bits), _unpack(record.kept_tokens, tokens)


def _pack(bits: Bool[Tensor, "*shape"]) -> str:
    return base64.b64encode(zlib.compress(np.packbits(bits.numpy()).tobytes(), 9)).decode("ascii")


def _unpack(text: str, count: int) -> Bool[Tensor, " N"]:
    needed = (count + 7) // 8
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(base64.b64decode(text, validate=True), needed + 1)
    except (zlib.error, binascii.Error, ValueError) as error:
        raise ValueError(f"edit: the bits in the picture's settings are damaged ({error})") from error
    if len(data) != needed or not stream.eof:
        raise ValueError(f"edit: the picture's settings hold {len(data)} bytes of bits, its grids need {needed}")
    return torch.from_numpy(np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count).astype(bool))
