"""Reconstruction losses that look at one pixel at a time: squared, absolute and cross-entropy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretext.losses.operands import check_pair, lift_precision, without_autocast

BCE_MARGIN = 1e-6
"""How near to 0 and 1 `bce` evaluates its logarithms; a gradient before the mean is at most 1 / BCE_MARGIN."""


def mse(prediction_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Mean squared difference over every element.

    Args:
        prediction_BCHW: Reconstruction, any float dtype and range.
        target_BCHW: The image it should be; the same shape.

    Returns:
        A scalar >= 0, float32 (float64 if an argument is), also under autocast.

    Raises:
        ValueError: If the shapes differ, are empty, or a dtype is not a float.
    """
    check_pair(prediction_BCHW, target_BCHW)
    with without_autocast(prediction_BCHW):
        loss: Tensor = _MeanSquare.apply(*lift_precision(prediction_BCHW, target_BCHW))[0]  # type: ignore[no-untyped-call]
        return loss


class _MeanSquare(torch.autograd.Function):
    """The mean squared difference, in the fewest passes over memory.

    `F.mse_loss` writes the squares down to add them up, and its gradient is never channels-last, so that what lies
    behind it in the backward pass works on two layouts at once: four times as slow on channels-last maps.
    """

    @staticmethod
    def forward(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        difference = prediction - target
        if difference.ndim != 4:
            return difference.square().mean(), difference
        # Norms of short rows in the order of memory: no square is written down, and short sums keep their digits.
        rows = difference.movedim(1, -1).flatten(2) if difference.stride(1) == 1 else difference
        return torch.linalg.vector_norm(rows, dim=-1).square().sum() / difference.numel(), difference

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[1])  # an output, so that a second derivative finds its way
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, scale: Tensor | None, through: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        (difference,) = ctx.saved_tensors
        gradient = through
        if scale is not None:
            own = difference * (scale * (2 / difference.numel()))
            gradient = own if through is None else own + through
        if gradient is None:
            return None, None
        return gradient if ctx.needs_input_grad[0] else None, -gradient if ctx.needs_input_grad[1] else None


def l1(prediction_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Mean absolute difference over every element; arguments, result and errors as in `mse`."""
    check_pair(prediction_BCHW, target_BCHW)
    with without_autocast(prediction_BCHW):
        prediction, target = lift_precision(prediction_BCHW, target_BCHW)
        return F.l1_loss(prediction, target)


def bce(prediction_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Mean binary cross-entropy, each channel value read as the probability of a one.

    `-(x log y + (1 - x) log(1 - y))` for target x and prediction y. Its floor, reached at y = x, is **not** 0 but the
    mean binary entropy of the target (0.693 for a grey picture, 0 only for pure black and white), so two data sets
    compare by `bce(y, x) - bce(x, x)`.

    The logarithms are evaluated at y clamped to [1e-6, 1 - 1e-6], while the gradient passes the clamp as if it weren't
    there: a sigmoid that has rounded to exactly 0 or 1 (routine in bfloat16) still learns, by a finite step.

    Args:
        prediction_BCHW: Probabilities in [0, 1], any float dtype. Not logits.
        target_BCHW: Values in [0, 1]; the same shape.

    Returns:
        A scalar, float32 (float64 if an argument is), also under autocast. At most 13.82.

    Raises:
        ValueError: If the shapes differ, are empty, or a dtype is not a float.

    Reference: Vincent et al. 2010, "Stacked Denoising Autoencoders", JMLR 11, sec. 2.2.
    """
    check_pair(prediction_BCHW, target_BCHW)
    with without_autocast(prediction_BCHW):
        prediction, target = lift_precision(prediction_BCHW, target_BCHW)
        inside = prediction.detach().clamp(BCE_MARGIN, 1 - BCE_MARGIN) + (prediction - prediction.detach())
        return -(target * torch.log(inside) + (1 - target) * torch.log1p(-inside)).mean()


class MSELoss(nn.Module):
    """`mse` as a module."""

    def forward(self, prediction_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        return mse(prediction_BCHW, target_BCHW)


class L1Loss(nn.Module):
    """`l1` as a module."""

    def forward(self, prediction_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        return l1(prediction_BCHW, target_BCHW)


class BCELoss(nn.Module):
    """`bce` as a module."""

    def forward(self, prediction_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        return bce(prediction_BCHW, target_BCHW)
