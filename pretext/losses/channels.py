"""Losses between a map of predictions and a map of colours, place by place: for networks that predict channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretext.losses.operands import check_pair, lift_precision, without_autocast


def bin_cross_entropy(logit_BKHW: Tensor, bin_BHW: Tensor, weight_K: Tensor | None = None) -> Tensor:
    """Mean over all places of the cross-entropy between a softmax over bins and the true bin.

    A network that knows nothing scores ln K; one that knows how often each bin occurs scores the entropy of their
    distribution, which is what two colour spaces have to be compared by.

    Args:
        logit_BKHW: Scores of the K bins at every place, any float dtype.
        bin_BHW: The true bins, 0..K-1, any integer dtype.
        weight_K: Weight of each bin's places; all 1 if not given. The mean is over places, not over weights.

    Returns:
        A scalar >= 0 in nats, float32 (float64 if the logits are), also under autocast.

    Raises:
        ValueError: If the shapes do not agree or a bin is not an integer.

    Reference: Zhang, Isola, Efros 2017, "Split-Brain Autoencoders", arXiv:1611.09842, eq. 3.
    """
    if logit_BKHW.ndim != 4 or bin_BHW.shape != (logit_BKHW.shape[0], *logit_BKHW.shape[2:]):
        raise ValueError(f"bin must be (B, H, W) for logits (B, K, H, W), got {tuple(bin_BHW.shape)} for "
                         f"{tuple(logit_BKHW.shape)}")  # fmt: skip
    if bin_BHW.is_floating_point():
        raise ValueError(f"bin must be an integer, got {bin_BHW.dtype}")
    with without_autocast(logit_BKHW):
        logit = logit_BKHW if logit_BKHW.dtype == torch.float64 else logit_BKHW.float()
        bins = bin_BHW.long()
        loss_BHW = F.cross_entropy(logit, bins, reduction="none")
        return (loss_BHW if weight_K is None else loss_BHW * weight_K.to(logit)[bins]).mean()


def half_squared_error(prediction_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Mean over all places of half the squared Euclidean distance between two colours.

    Args:
        prediction_BCHW: Predicted channels, any float dtype and range.
        target_BCHW: True channels; the same shape.

    Returns:
        A scalar >= 0, float32 (float64 if an argument is), also under autocast.

    Raises:
        ValueError: If the shapes differ, are empty, or a dtype is not a float.

    Reference: Zhang, Isola, Efros 2017, arXiv:1611.09842, eq. 2; there summed over places, here their mean.
    """
    check_pair(prediction_BCHW, target_BCHW)
    with without_autocast(prediction_BCHW):
        prediction, target = lift_precision(prediction_BCHW, target_BCHW)
        return 0.5 * (prediction - target).square().sum(1).mean()


class BinCrossEntropy(nn.Module):
    """`bin_cross_entropy` as a module.

    Args:
        rebalance: How alike places count: 1 all the same; below, the share of the uniform distribution in what a bin's
            weight is the inverse of (Zhang, Isola, Efros 2016, arXiv:1603.08511, eq. 4, where it is 0.5).
    """

    def __init__(self, rebalance: float = 1.0) -> None:
        super().__init__()
        if not 0 <= rebalance <= 1:
            raise ValueError(f"rebalance must be in 0..1, got {rebalance}")
        self.rebalance = rebalance

    def forward(self, logit_BKHW: Tensor, bin_BHW: Tensor, weight_K: Tensor | None = None) -> Tensor:
        return bin_cross_entropy(logit_BKHW, bin_BHW, weight_K)


class HalfSquaredError(nn.Module):
    """`half_squared_error` as a module."""

    def forward(self, prediction_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        return half_squared_error(prediction_BCHW, target_BCHW)
