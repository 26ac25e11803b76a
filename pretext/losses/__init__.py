"""Losses: two tensors in, one scalar out."""

from __future__ import annotations

from pretext.losses.pixel import BCELoss, L1Loss, MSELoss, bce, l1, mse
from pretext.losses.pse import PSELoss, blur, effective_sigma, gaussian_kernel, pse

__all__ = [
    "BCELoss",
    "L1Loss",
    "MSELoss",
    "PSELoss",
    "bce",
    "blur",
    "effective_sigma",
    "gaussian_kernel",
    "l1",
    "mse",
    "pse",
]
