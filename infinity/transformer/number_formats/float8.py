"""Products in 8-bit floating point (e4m3), which newer GPUs compute at twice the rate of bfloat16.

Weights have one scale per output, inputs one per token, so that the largest number of a row becomes the largest of the
format. Results are rounded to bfloat16, as the kernel of a GPU does. Other devices compute the same numbers without the
speed, up to the rounding of sums: the fast sums of a GPU are coarser than float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LARGEST = 448.0
"""Largest number of e4m3."""

_LEAST_CAPABILITY = (8, 9)
_MULTIPLE = 16
"""Kernels of a GPU want widths in multiples of this number."""


def fits_float8(linear: nn.Linear) -> bool:
    """Return whether a GPU has products in float8 for a linear map of these widths."""
    return linear.in_features % _MULTIPLE == 0 and linear.out_features % _MULTIPLE == 0


def to_float8(rows: Float[Tensor, "*N D"]) -> tuple[Tensor, Float[Tensor, "*N 1"]]:
    """Return numbers of e4m3, and the float32 scale of each row that restores the numbers.

    Example:
        >>> codes, scale = to_float8(torch.tensor([[1.0, -0.5, 0.3]]))
        >>> codes.float().tolist(), round(float(scale), 6)  # 0.3 is restored as 0.2857
        ([[448.0, -224.0, 128.0]], 0.002232)
    """
    rows = rows.float()
    scale = rows.abs().amax(dim=-1, keepdim=True) / LARGEST
    scale = torch.where(scale == 0, 1.0, scale)  # also where the largest number is too small for a scale of its own
    return (rows / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scale


def float8_product(
    x: Float[Tensor, "*N In"], codes: Float[Tensor, "Out In"], scale: Float[Tensor, "Out 1"], bias: Tensor | None
) -> Float[Tensor, "*N Out"]:
    """Apply a linear map with weights in float8 to inputs that are rounded to float8.

    Args:
        codes: Weights in e4m3.
        scale: Scale of each output's weights.
        bias: Bias of each output; None for none.

    Returns:
        Numbers in the data type of autocast, or of the inputs without it; they were rounded to bfloat16.
    """
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    bias = None if bias is None else bias.to(torch.bfloat16)
    with torch.autocast(kind, enabled=False):
        rows, row_scale = to_float8(x.reshape(-1, x.shape[-1]))
        product = _scaled if has_float8(x.device) else _emulated
        result = product(rows, row_scale, codes, scale, bias)
    return result.to(dtype).view(*x.shape[:-1], len(codes))


def _scaled(rows: Tensor, row_scale: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch._scaled_mm(
        rows, codes.t(), scale_a=row_scale, scale_b=scale.t(), bias=bias, out_dtype=torch.bfloat16, use_fast_accum=True
    )
    return result


def _emulated(rows: Tensor, row_scale: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    result = F.linear(rows.float(), codes.float()) * row_scale * scale.t()
    return (result if bias is None else result + bias.float()).to(torch.bfloat16)


def has_float8(device: torch.device) -> bool:
    """Return whether a device has instructions for products in float8: NVIDIA's GPUs from Ada and Hopper on."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device) >= _LEAST_CAPABILITY


def check_float8(device: torch.device) -> None:
    """Refuse float8 on a device that would only emulate it, slower than bfloat16.

    Raises:
        ValueError: A CPU, or a GPU before compute capability 8.9.
    """
    if has_float8(device):
        return
    found = f"the device {device.type}"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        found = f"{torch.cuda.get_device_name(device)} ({major}.{minor})"
    raise ValueError(
        "float8: products in 8 bits need an NVIDIA GPU of compute capability 8.9 or newer (Ada, Hopper), found "
        f"{found}; leave float8 out"
    )
