"""What every classifier on frozen features asks of its input, and of the arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def check_features(feature_ND: Tensor, label_N: Tensor, *, num_classes: int) -> None:
    """Raise a ValueError unless these are finite float features with a label 0..K-1 each."""
    if feature_ND.ndim != 2 or feature_ND.dtype not in (torch.float32, torch.float64) or 0 in feature_ND.shape:
        raise ValueError(
            f"feature must be non-empty (N, D) of float32 or float64, got {feature_ND.dtype} {tuple(feature_ND.shape)}"
        )
    if not feature_ND.isfinite().all():
        raise ValueError(f"feature must be finite, got {feature_ND[~feature_ND.isfinite()][0].item()}")
    if label_N.shape != feature_ND.shape[:1] or label_N.dtype != torch.int64:
        raise ValueError(f"label must be ({len(feature_ND)},) of int64, got {label_N.dtype} {tuple(label_N.shape)}")
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    outside = (label_N < 0) | (label_N >= num_classes)
    if outside.any():
        raise ValueError(f"label must be in 0..{num_classes - 1}, got {label_N[outside][0].item()}")


@contextmanager
def full_precision() -> Iterator[None]:
    """Matrix products without TF32, which a caller may have allowed for training: it keeps 3 digits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
