"""Losses: two tensors in, one scalar out."""

from __future__ import annotations

from pretext.losses.channels import BinCrossEntropy, HalfSquaredError, bin_cross_entropy, half_squared_error
from pretext.losses.pixel import BCELoss, L1Loss, MSELoss, bce, l1, mse
from pretext.losses.pse import PSELoss, blur, effective_sigma, gaussian_kernel, pse

__all__ = [
    "BCELoss",
    "BinCrossEntropy",
    "HalfSquaredError",
    "L1Loss",
    "MSELoss",
    "PSELoss",
    "bce",
    "bin_cross_entropy",
    "blur",
    "effective_sigma",
    "gaussian_kernel",
    "half_squared_error",
    "l1",
    "mse",
    "pse",
]
