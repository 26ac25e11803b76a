"""Between sRGB, linear light, CIE XYZ and CIE Lab: white point D65, 2 degree observer, scikit-image's constants.

Every function takes colours with their three channels at dimension -3, behind any leading dimensions, on any device
and in any memory layout. It returns a new tensor of the same shape and layout, float64 for float64, else float32.
Its gradient is finite everywhere, black and the thresholds of the curves included.

Each curve is a power above a threshold and a straight line below it. No power is taken of anything below the threshold,
so that no infinite slope reaches the gradient, not even times zero.

Letters beyond the package's: in "3N" the three channels come first, and N stands for all the other dimensions.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pretext.color.planes import NO_BUFFERS, Buffers, Kernel, check_kind, joined, places, run_kernels

WHITE = np.array([0.95047, 1.0, 1.08883])
RGB_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
XYZ_TO_RGB = np.linalg.inv(RGB_TO_XYZ)

SRGB_EDGE, LINEAR_EDGE = 0.04045, 0.0031308
"""Where the sRGB curve turns into a line of slope 12.92: on its stored side, on its linear side."""

RATIO_EDGE, ROOT_EDGE = 0.008856, 0.2068966
"""Where Lab's cube root turns into the line `7.787 ratio + 16 / 116`: before it, after it."""


def _select(above: Tensor, low: Tensor, high: Tensor, out: Tensor | None) -> Tensor:
    """`high` where `above`, else `low`. `lerp` is exact at weights 0 and 1, and 25 times as fast as `where`."""
    return torch.lerp(low, high, above.to(low.dtype), out=out)


def _expand(srgb_3N: Tensor, buffers: Buffers) -> Tensor:
    """The sRGB curve, stored value to linear light."""
    out_3N, line_3N, above_3N = buffers
    above_3N = torch.gt(srgb_3N, SRGB_EDGE, out=above_3N)
    line_3N = torch.mul(srgb_3N, 1 / 12.92, out=line_3N)
    base_3N = torch.clamp_min(srgb_3N, SRGB_EDGE, out=out_3N).add_(0.055).mul_(1 / 1.055)
    return _select(above_3N, line_3N, base_3N.log2_().mul_(2.4).exp2_(), out_3N)  # half the time of pow


def _compress(linear_3N: Tensor, buffers: Buffers) -> Tensor:
    """The sRGB curve, linear light to stored value."""
    out_3N, line_3N, above_3N = buffers
    above_3N = torch.gt(linear_3N, LINEAR_EDGE, out=above_3N)
    line_3N = torch.mul(linear_3N, 12.92, out=line_3N)
    power_3N = torch.clamp_min(linear_3N, LINEAR_EDGE, out=out_3N).log2_().mul_(1 / 2.4).exp2_()
    return _select(above_3N, line_3N, torch.mul(power_3N, 1.055, out=out_3N).sub_(0.055), out_3N)


def _take_root(ratio_3N: Tensor, buffers: Buffers) -> Tensor:
    """Lab's curve, ratio to the white point to (almost) its cube root."""
    out_3N, line_3N, above_3N = buffers
    above_3N = torch.gt(ratio_3N, RATIO_EDGE, out=above_3N)
    line_3N = torch.mul(ratio_3N, 7.787, out=line_3N).add_(16 / 116)
    power_3N = torch.clamp_min(ratio_3N, RATIO_EDGE, out=out_3N).log2_().mul_(1 / 3).exp2_()
    return _select(above_3N, line_3N, power_3N, out_3N)


def _undo_root(root_3N: Tensor, buffers: Buffers) -> Tensor:
    """Lab's curve backwards."""
    out_3N, line_3N, above_3N = buffers
    above_3N = torch.gt(root_3N, ROOT_EDGE, out=above_3N)
    line_3N = torch.sub(root_3N, 16 / 116, out=line_3N).mul_(1 / 7.787)
    return _select(above_3N, line_3N, torch.pow(root_3N, 3, out=out_3N), out_3N)


def _roots_to_lab(root_3N: Tensor, buffers: Buffers) -> Tensor:
    x_N, y_N, z_N = root_3N
    lightness_N, a_N, b_N = places(buffers)
    lightness_N = torch.mul(y_N, 116, out=lightness_N).sub_(16)
    a_N = torch.sub(x_N, y_N, out=a_N).mul_(500)
    b_N = torch.sub(y_N, z_N, out=b_N).mul_(200)
    return joined((lightness_N, a_N, b_N), buffers)


def _lab_to_roots(lab_3N: Tensor, buffers: Buffers) -> Tensor:
    lightness_N, a_N, b_N = lab_3N
    x_N, y_N, z_N = places(buffers)
    y_N = torch.add(lightness_N, 16, out=y_N).mul_(1 / 116)
    x_N = torch.add(y_N, a_N, alpha=1 / 500, out=x_N)
    # no light is as blue as to need less than 0 here; scikit-image stops there too
    z_N = torch.sub(y_N, b_N, alpha=1 / 200, out=z_N).clamp_min_(0)
    return joined((x_N, y_N, z_N), buffers)


def _mix(matrix_33: np.ndarray) -> Kernel:
    rows = matrix_33.tolist()

    def kernel(colour_3N: Tensor, buffers: Buffers) -> Tensor:
        # not a matrix product: those may round to 10 bits on a GPU, by a switch that is not ours
        first_N, second_N, third_N = colour_3N
        mixed = [
            torch.mul(first_N, u, out=place).add_(second_N, alpha=v).add_(third_N, alpha=w)
            for (u, v, w), place in zip(rows, places(buffers), strict=True)
        ]
        return joined(mixed, buffers)

    return kernel


def _clamp(colour_3N: Tensor, buffers: Buffers) -> Tensor:
    return torch.clamp(colour_3N, 0, 1, out=buffers[0])


@lru_cache(maxsize=16)
def _light_of_bytes(device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a table made under inference mode could never serve a training step
        return _expand(torch.arange(256, dtype=torch.float64) / 255, NO_BUFFERS).float().to(device)


def _from_srgb(image_BCHW: Tensor, *kernels: Kernel, out: Tensor | None = None) -> Tensor:
    check_kind("image", image_BCHW, stored=True)
    if image_BCHW.dtype != torch.uint8:
        return run_kernels((_expand, *kernels), image_BCHW, out=out)
    return run_kernels(kernels, image_BCHW, table_256=_light_of_bytes(image_BCHW.device), out=out)


def srgb_to_linear(image_BCHW: Tensor) -> Tensor:
    """Undo the sRGB curve.

    Args:
        image_BCHW: uint8 0..255, or float 0..1.

    Returns:
        linear_BCHW: Linear light of the sRGB primaries, 0..1.

    Raises:
        ValueError: If dimension -3 is not of size 3, or the dtype is neither uint8 nor float.

    Reference: IEC 61966-2-1:1999.
    """
    return _from_srgb(image_BCHW)


def linear_to_srgb(linear_BCHW: Tensor) -> Tensor:
    """Apply the sRGB curve: the inverse of `srgb_to_linear`, to image01_BCHW. Nothing is clamped.

    Raises:
        ValueError: If dimension -3 is not of size 3, or the dtype is not float.
    """
    check_kind("linear", linear_BCHW)
    return run_kernels((_compress,), linear_BCHW)


def linear_to_xyz(linear_BCHW: Tensor) -> Tensor:
    """CIE XYZ, white at (0.95047, 1, 1.08883), of linear light 0..1.

    Raises:
        ValueError: If dimension -3 is not of size 3, or the dtype is not float.
    """
    check_kind("linear", linear_BCHW)
    return run_kernels((_mix(RGB_TO_XYZ),), linear_BCHW)


def xyz_to_linear(xyz_BCHW: Tensor) -> Tensor:
    """The inverse of `linear_to_xyz`. Colours outside sRGB have a value below 0 or above 1.

    Raises:
        ValueError: If dimension -3 is not of size 3, or the dtype is not float.
    """
    check_kind("xyz", xyz_BCHW)
    return run_kernels((_mix(XYZ_TO_RGB),), xyz_BCHW)


def xyz_to_lab(xyz_BCHW: Tensor) -> Tensor:
    """CIE Lab of CIE XYZ.

    Raises:
        ValueError: If dimension -3 is not of size 3, or the dtype is not float.

    Reference: CIE 1976, with the decimal constants of scikit-image.
    """
    check_kind("xyz", xyz_BCHW)
    return run_kernels((_mix(np.diag(1 / WHITE)), _take_root, _roots_to_lab), xyz_BCHW)


def lab_to_xyz(lab_BCHW: Tensor) -> Tensor:
    """The inverse of `xyz_to_lab`; a `b` above what any Z can make counts as the largest that one can.

    Raises:
        ValueError: If dimension -3 is not of size 3, or the dtype is not float.
    """
    check_kind("lab", lab_BCHW)
    return run_kernels((_lab_to_roots, _undo_root, _mix(np.diag(WHITE))), lab_BCHW)


def rgb_to_lab(image_BCHW: Tensor, *, out: Tensor | None = None) -> Tensor:
    """CIE Lab of sRGB images.

    Args:
        image_BCHW: uint8 0..255, or float 0..1.
        out: Where the result goes, in whatever layout; there is then no gradient.

    Returns:
        lab_BCHW: L in 0..100; over sRGB, a in -86.183..98.233 and b in -107.857..94.478.

    Raises:
        ValueError: If dimension -3 is not of size 3, the dtype is neither uint8 nor float, or `out` is of another
            shape or dtype than the result.

    Cost: about 4 ns a value on one core from uint8, 5.5 from float.
    Reference: IEC 61966-2-1:1999; CIE 1976.
    """
    return _from_srgb(image_BCHW, _mix(RGB_TO_XYZ / WHITE[:, None]), _take_root, _roots_to_lab, out=out)


def lab_to_rgb(lab_BCHW: Tensor, *, clamp: bool = True) -> Tensor:
    """sRGB images of CIE Lab: the inverse of `rgb_to_lab`.

    Args:
        lab_BCHW: Float, L in 0..100.
        clamp: Bring colours outside sRGB to the nearest end of 0..1, channel by channel. Their gradient is then zero.

    Returns:
        image01_BCHW: 0..1 if `clamp`.

    Raises:
        ValueError: If dimension -3 is not of size 3, or the dtype is not float.
    """
    check_kind("lab", lab_BCHW)
    kernels: tuple[Kernel, ...] = (_lab_to_roots, _undo_root, _mix(XYZ_TO_RGB * WHITE), _compress)
    return run_kernels((*kernels, _clamp) if clamp else kernels, lab_BCHW)
