"""The scale on which Lab is stored and shown to networks: the range that sRGB spans in each channel becomes 0..1.

As bytes, 0..255; so a stored Lab image divided by 255 is a network's input.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pretext.color.planes import Buffers, check_kind, joined, places, run_kernels

LAB_LOW = (0, -87, -108)
LAB_SPAN = (100, 186, 203)
"""All of 24-bit sRGB lies inside: L 0..100, a -86.2..98.2, b -107.9..94.5."""


def _to_unit(lab_3N: Tensor, buffers: Buffers) -> Tensor:
    scale = zip(lab_3N, places(buffers), LAB_LOW, LAB_SPAN, strict=True)
    return joined([torch.sub(plane_N, low, out=out_N).div_(span) for plane_N, out_N, low, span in scale], buffers)


def _from_unit(unit_3N: Tensor, buffers: Buffers) -> Tensor:
    scale = zip(unit_3N, places(buffers), LAB_LOW, LAB_SPAN, strict=True)
    return joined([torch.mul(plane_N, span, out=out_N).add_(low) for plane_N, out_N, low, span in scale], buffers)


def _to_byte(unit_3N: Tensor, buffers: Buffers) -> Tensor:
    return torch.mul(unit_3N, 255, out=buffers[0]).round_().clamp_(0, 255)


def _from_byte(byte_3N: Tensor, buffers: Buffers) -> Tensor:
    return torch.div(byte_3N, 255, out=buffers[0])


def lab_to_unit(lab_BCHW: Tensor) -> Tensor:
    """A network's input: `(lab - LAB_LOW) / LAB_SPAN`.

    Args:
        lab_BCHW: Float, the channels L, a, b at dimension -3, any leading dimensions and memory layout.

    Returns:
        unit_BCHW: 0..1 over sRGB; same layout, float32 (float64 for float64).

    Raises:
        ValueError: If dimension -3 is not of size 3, or the dtype is not float.
    """
    check_kind("lab", lab_BCHW)
    return run_kernels((_to_unit,), lab_BCHW)


def unit_to_lab(unit_BCHW: Tensor) -> Tensor:
    """The inverse of `lab_to_unit`.

    Raises:
        ValueError: If dimension -3 is not of size 3, or the dtype is not float.
    """
    check_kind("unit", unit_BCHW)
    return run_kernels((_from_unit,), unit_BCHW)


def lab_to_bytes(lab_BCHW: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Stored Lab: the nearest 255th of `lab_to_unit`, times 255.

    Half a step is 0.20 in L, 0.36 in a and 0.40 in b. What lies beyond the range is stored as its end.

    Args:
        lab_BCHW: As for `lab_to_unit`.
        out: Where the result goes, in whatever layout.

    Returns:
        byte_BCHW: uint8, same shape and layout. There is no gradient.

    Raises:
        ValueError: If dimension -3 is not of size 3, the dtype is not float, or `out` is no uint8 of this shape.
    """
    check_kind("lab", lab_BCHW)
    return run_kernels((_to_unit, _to_byte), lab_BCHW.detach(), dtype=torch.uint8, out=out)


def bytes_to_lab(byte_BCHW: Tensor) -> Tensor:
    """CIE Lab, float32, of stored Lab. Storing it again gives the same bytes.

    Raises:
        ValueError: If dimension -3 is not of size 3, or the dtype is not uint8.
    """
    if byte_BCHW.dtype != torch.uint8:
        raise ValueError(f"bytes must be uint8, got {byte_BCHW.dtype}")
    check_kind("bytes", byte_BCHW, stored=True)
    return run_kernels((_from_byte, _from_unit), byte_BCHW)
