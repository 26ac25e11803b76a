"""Proximally sensitive error: squared error of a residual that was blurred first, so that close errors add up."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pretext.losses.operands import check_pair, lift_precision, without_autocast
from pretext.losses.smoothing import Padding, blur, check_padding, effective_sigma, gaussian_kernel, norm_basis

__all__ = ["PSELoss", "Padding", "Residual", "Scale", "blur", "effective_sigma", "gaussian_kernel", "pse"]

Residual = Literal["abs", "signed"]
Scale = Literal["unit", "slides"]


def pse(
    prediction_BCHW: Tensor,
    target_BCHW: Tensor,
    *,
    sigma: float = 4.0,
    truncate: float = 4.0,
    padding: Padding = "symmetric",
    residual: Residual = "abs",
    scale: Scale = "unit",
) -> Tensor:
    """Mean square of the Gaussian-blurred residual, `mean((|y - x| * K)^2)`, channel by channel.

    A squared error charges a pair of sunglasses that went missing no more than noise of the same energy; after the
    blur, errors that are neighbours reinforce each other and scattered ones don't.

    Args:
        prediction_BCHW: Reconstruction y, any float dtype and range.
        target_BCHW: The image x it should be; the same shape.
        sigma: Width of the Gaussian K in pixels, >= 0. 0 gives the mean squared error.
        truncate: Where K is cut, in units of sigma. At 1.0 (the public implementation) only 57.6 % of the Gaussian's
            mass at sigma 3 is inside and the standard deviation that remains is 1.835: see `effective_sigma`.
        padding: What the residual is outside the image. "zero" makes errors near the border cheap (a constant residual
            costs 0.947 of its squared error at sigma 3, truncate 1, on 96x96); "symmetric" keeps constants
            exact and never exceeds the squared error; "replicate" may exceed it.
        residual: "abs" blurs |y - x|: noise cannot cancel, and the loss is 0 only for y = x. "signed" blurs y - x: a
            quadratic form that hardly sees high frequencies (a checkerboard costs 6e-5 of its squared error
            at sigma 3, truncate 1).
        scale: "unit", K sums to 1 and a constant residual costs its squared error; "slides", 1/9 of that, since the
            public implementation normalises K over all three channels together.

    Returns:
        A scalar >= 0, float32 (float64 if an argument is), also under autocast. Homogeneous of degree 2 in the
        residual.

    Raises:
        ValueError: If the tensors are not (B, C, H, W) floats of one shape, or an option is out of its range.

    Cost: two dense products, K_W multiplications per pixel and K_H per K_W / W pixels, where K counts the singular
        directions of the blur that matter (33 of 96 at the defaults); no blurred image is ever made. Energy below
        1e-8 (float64: 1e-18) of the residual's may be missed. On GPUs the products follow the global TF32 setting.
    Reference: Gudi, Buettner, van Gemert 2022, "Proximally Sensitive Error for Anomaly Detection and Feature Learning",
        arXiv:2206.00506.
    """
    check_pair(prediction_BCHW, target_BCHW)
    if prediction_BCHW.ndim != 4:
        raise ValueError(f"prediction must be (B, C, H, W), got {tuple(prediction_BCHW.shape)}")
    _check_choices(padding, residual, scale)
    with without_autocast(prediction_BCHW):
        prediction, target = lift_precision(prediction_BCHW, target_BCHW)
        residual_BCHW = prediction - target
        if residual == "abs":
            residual_BCHW = residual_BCHW.abs()
        basis_KH, basis_KW = (
            norm_basis(size, sigma, truncate, padding, residual_BCHW.dtype, residual_BCHW.device)
            for size in residual_BCHW.shape[2:]
        )
        energy = _project(residual_BCHW, basis_KH, basis_KW).square().sum()
        return energy / (residual_BCHW.numel() * (9 if scale == "slides" else 1))


def _check_choices(padding: str, residual: str, scale: str) -> None:
    check_padding(padding)
    if residual not in get_args(Residual):
        raise ValueError(f"residual must be one of {', '.join(get_args(Residual))}, got {residual!r}")
    if scale not in get_args(Scale):
        raise ValueError(f"scale must be one of {', '.join(get_args(Scale))}, got {scale!r}")


def _project(residual_BCHW: Tensor, basis_KH: Tensor, basis_KW: Tensor) -> Tensor:
    """Contract H and W with their bases, in the order that suits the memory layout; the result's layout is free."""
    B, C, H, W = residual_BCHW.shape
    if residual_BCHW.is_contiguous() or not residual_BCHW.is_contiguous(memory_format=torch.channels_last):
        half_BCHK = residual_BCHW.reshape(-1, W) @ basis_KW.T
        return basis_KH @ half_BCHK.view(B, C, H, -1)
    half_BKWC = basis_KH @ residual_BCHW.permute(0, 2, 3, 1).reshape(B, H, W * C)
    half_BKCW = half_BKWC.view(B, -1, W, C).transpose(2, 3)
    return half_BKCW.reshape(-1, W) @ basis_KW.T


class PSELoss(nn.Module):
    """`pse` with its options bound; it has no state, and the options are checked when it is made.

    `PSELoss(sigma=3, truncate=1.0, padding="zero", residual="abs", scale="slides")` is the public implementation.
    """

    def __init__(
        self,
        sigma: float = 4.0,
        truncate: float = 4.0,
        padding: Padding = "symmetric",
        residual: Residual = "abs",
        scale: Scale = "unit",
    ) -> None:
        super().__init__()
        gaussian_kernel(sigma, truncate)  # for its checks
        _check_choices(padding, residual, scale)
        self.sigma, self.truncate = sigma, truncate
        self.padding, self.residual, self.scale = padding, residual, scale

    def forward(self, prediction_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        return pse(
            prediction_BCHW,
            target_BCHW,
            sigma=self.sigma,
            truncate=self.truncate,
            padding=self.padding,
            residual=self.residual,
            scale=self.scale,
        )

    def extra_repr(self) -> str:
        names = ("sigma", "truncate", "padding", "residual", "scale")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
