"""Gaussian blur of finite images as two dense matrices, and the short bases in which its output's norm can be taken.

A separable blur of an image X is `G_H X G_W^T`, with one row of each G per output line: a band of kernel taps whose
overhang past the border is dropped (zero padding) or folded back. At the sizes of pretext images two dense
products beat a convolution, and the singular vectors of G tell which directions of X reach the output at all.

Letters beyond the package's: S taps of a kernel, N lines in, P lines out (as many), K singular directions kept.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pretext.losses.operands import lift_precision, without_autocast

Padding = Literal["zero", "symmetric", "replicate"]

RELATIVE_FLOOR = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Directions with a gain below this fraction of the largest are dropped; the energy lost is the square of it."""


def gaussian_kernel(sigma: float, truncate: float = 4.0) -> np.ndarray:
    """A sampled, truncated and renormalised Gaussian, by the rule of `scipy.ndimage.gaussian_filter1d`.

    Args:
        sigma: Standard deviation of the Gaussian before truncation, in pixels, >= 0. 0 gives the identity `[1.]`.
        truncate: Where to cut, in units of sigma, > 0.

    Returns:
        kernel_S: float64, S = 2 * int(truncate * sigma + 0.5) + 1 taps, positive, symmetric, summing to 1.

    Raises:
        ValueError: If `sigma` is negative or not finite, or `truncate` is not positive and finite.
    """
    if not (math.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma must be finite and >= 0, got {sigma}")
    if not (math.isfinite(truncate) and truncate > 0):
        raise ValueError(f"truncate must be finite and > 0, got {truncate}")
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    offset_S = np.arange(-radius, radius + 1)
    kernel_S: np.ndarray = np.exp(-0.5 * (offset_S / sigma) ** 2)
    kernel_S /= kernel_S.sum()
    return kernel_S


def effective_sigma(sigma: float, truncate: float = 4.0) -> float:
    """Standard deviation, in pixels, of the kernel that is really applied: what to compare across truncations.

    Cut at one sigma, "sigma 3" is 1.835 pixels wide; cut at four, 2.999.

    Raises:
        ValueError: As `gaussian_kernel`.
    """
    kernel_S = gaussian_kernel(sigma, truncate)
    offset_S = np.arange(len(kernel_S)) - len(kernel_S) // 2
    return float(np.sqrt((kernel_S * offset_S**2).sum()))


def check_padding(padding: str) -> None:
    """Raise ValueError unless `padding` is one of `Padding`."""
    if padding not in get_args(Padding):
        raise ValueError(f"padding must be one of {', '.join(get_args(Padding))}, got {padding!r}")


@lru_cache(maxsize=64)
def _blur_array(size: int, sigma: float, truncate: float, padding: Padding) -> np.ndarray:
    kernel_S = gaussian_kernel(sigma, truncate)
    radius = len(kernel_S) // 2
    line_P1 = np.arange(size)[:, None]
    source_PS = line_P1 + np.arange(-radius, radius + 1)
    weight_PS = np.broadcast_to(kernel_S, source_PS.shape)
    if padding == "zero":
        weight_PS = weight_PS * ((source_PS >= 0) & (source_PS < size))
    elif padding == "symmetric":
        # d c b a | a b c d | d c b a | a b ..., however far a wide kernel reaches
        phase_PS = source_PS % (2 * size)
        source_PS = np.minimum(phase_PS, 2 * size - 1 - phase_PS)
    source_PS = source_PS.clip(0, size - 1)
    matrix_PN = np.zeros((size, size))
    np.add.at(matrix_PN, (np.broadcast_to(line_P1, source_PS.shape), source_PS), weight_PS)
    return matrix_PN


@lru_cache(maxsize=64)
def _singular_values_and_rows(
    size: int, sigma: float, truncate: float, padding: Padding
) -> tuple[np.ndarray, np.ndarray]:
    _, gain_K, direction_KN = np.linalg.svd(_blur_array(size, sigma, truncate, padding))
    return gain_K, gain_K[:, None] * direction_KN


@lru_cache(maxsize=64)
def _device_copy(
    kind: Literal["matrix", "basis"],
    size: int,
    sigma: float,
    truncate: float,
    padding: Padding,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    if kind == "matrix":
        array = _blur_array(size, sigma, truncate, padding)
    else:
        gain_K, row_KN = _singular_values_and_rows(size, sigma, truncate, padding)
        array = row_KN[gain_K >= RELATIVE_FLOOR[dtype] * gain_K[0]]
    with torch.inference_mode(False):  # a copy made under inference mode could never serve a training step
        return torch.from_numpy(np.ascontiguousarray(array)).to(device=device, dtype=dtype)


# torch.compile can't see through a cache: to it, these two are constants
@torch.compiler.assume_constant_result
def blur_matrix(
    size: int, sigma: float, truncate: float, padding: Padding, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The blur of `size` lines as a matrix_PN. Cached per device, so don't write to it."""
    check_padding(padding)
    return _device_copy("matrix", size, sigma, truncate, padding, dtype, device)


@torch.compiler.assume_constant_result
def norm_basis(
    size: int, sigma: float, truncate: float, padding: Padding, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """A matrix_KN, K <= N, whose output has the norm of `blur_matrix`'s for every input. Cached, so don't write to it.

    With G = U S V^T, `||G x|| = ||S V^T x||`, and the rows of S V^T whose gain is negligible (`RELATIVE_FLOOR`)
    are left out: at sigma 4 on 96 lines, 33 of 96 stay in float32.
    """
    check_padding(padding)
    return _device_copy("basis", size, sigma, truncate, padding, dtype, device)


def blur(image_BCHW: Tensor, sigma: float, *, truncate: float = 4.0, padding: Padding = "symmetric") -> Tensor:
    """Blur each channel with a Gaussian; for figures, and for the reader who wants to see what `pse` squares.

    Args:
        image_BCHW: Any float dtype and range.
        sigma: Standard deviation in pixels, >= 0.
        truncate: Where the kernel is cut, in units of sigma.
        padding: What lies outside the image: "zero"; "symmetric", the half-sample mirror `d c b a | a b c d` (scipy's
            "reflect"); "replicate", the border pixel (scipy's "nearest"). The image may be smaller than the kernel.

    Returns:
        blurred_BCHW: Same shape, float32 (float64 if the image is), also under autocast.

    Raises:
        ValueError: If the image is not four-dimensional and float, `padding` is unknown, or as `gaussian_kernel`.

    Cost: H + W multiplications per pixel, whatever sigma is.
    """
    if image_BCHW.ndim != 4 or not image_BCHW.is_floating_point():
        raise ValueError(f"image must be a float (B, C, H, W), got {image_BCHW.dtype} {tuple(image_BCHW.shape)}")
    with without_autocast(image_BCHW):
        (image_BCHW,) = lift_precision(image_BCHW)
        matrix_HH, matrix_WW = (
            blur_matrix(size, sigma, truncate, padding, image_BCHW.dtype, image_BCHW.device)
            for size in image_BCHW.shape[2:]
        )
        blurred_BCHW: Tensor = matrix_HH @ image_BCHW @ matrix_WW.T
        return blurred_BCHW
