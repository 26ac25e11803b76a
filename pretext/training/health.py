"""Whether a training is well: how many directions its features span, and whether its loss jumps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

WATCHED = 512  # images whose features are looked at
WINDOW, FEWEST = 11, 3  # rows that a running median is of, at most and at least


def effective_rank(feature_ND: Tensor) -> float | None:
    """How many directions features span: the exponential of the entropy of their normalised singular values.

    Args:
        feature_ND: Any float dtype and device; computed in float64.

    Returns:
        1 (all lie on one line through 0) to min(N, D); None where a feature is no number or all are 0.

    Cost: the eigenvalues of a matrix of min(N, D) rows.

    Reference: Roy, Vetterli 2007, EUSIPCO; as a measure of pretraining Garrido et al. 2023 (RankMe), arXiv:2210.02885.
    """
    matrix = feature_ND.detach().to("cpu", torch.float64)
    if not matrix.numel() or not bool(matrix.isfinite().all()):
        return None
    matrix = matrix / matrix.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
    gram = matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
    square = torch.linalg.eigvalsh(gram)
    # What rounding leaves of a zero is no direction.
    singular = square.where(square > len(gram) * torch.finfo(torch.float64).eps * square[-1], 0.0).sqrt()
    if not float(singular.sum()) > 0:
        return None
    return float(torch.special.entr(singular / singular.sum()).sum().exp())


def loss_over_median(rows: Sequence[Mapping[str, Any]], kind: str, loss: float | None) -> float | None:
    """A row's loss over the median of the last ones of its kind before it; None for the first ones, and where a loss of 0
    or less is among them, of which a ratio says nothing."""
    before = [row["train/loss"] for row in rows if row["kind"] == kind and row["train/loss"] is not None][-WINDOW:]
    if loss is None or len(before) < FEWEST or min(before) <= 0 or not math.isfinite(loss):
        return None
    return float(loss / median(before))
