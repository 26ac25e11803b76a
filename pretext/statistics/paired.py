"""Tests for two runs scored on the same images, and the correction for testing many pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """What McNemar's test saw.

    Attributes:
        only_a: Images that only the first run got right.
        only_b: Images that only the second run got right.
        p_value: Two-sided exact p-value, 0..1; 1 when the runs never disagree.
        difference: Accuracy of the first run minus that of the second, -1..1.
    """

    only_a: int
    only_b: int
    p_value: float
    difference: float


def mcnemar(correct_a_N: ArrayLike, correct_b_N: ArrayLike) -> PairedTest:
    """Exact two-sided McNemar test of equal accuracy on the same images.

    Only images on which the two runs disagree carry information: without a difference, each is a fair coin.
    It compares two sets of predictions, not two methods; the spread between seeds is not in it.

    Args:
        correct_a_N: Whether the first run is right on each image; boolean or 0/1.
        correct_b_N: The same images, in the same order, for the second run.

    Returns:
        The counts, the exact p-value and the difference in accuracy.

    Raises:
        ValueError: If either is not a non-empty vector of booleans or 0/1, or the lengths differ.

    Reference: McNemar 1947, Psychometrika 12; the exact form is the sign test on the discordant pairs.
    """
    a_N, b_N = _correctness(correct_a_N, name="correct_a"), _correctness(correct_b_N, name="correct_b")
    if len(a_N) != len(b_N):
        raise ValueError(f"correct_a and correct_b must hold the same images, got {len(a_N)} and {len(b_N)} values")
    only_a, only_b = int((a_N & ~b_N).sum()), int((b_N & ~a_N).sum())
    discordant = only_a + only_b
    p_value = float(stats.binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0
    return PairedTest(only_a=only_a, only_b=only_b, p_value=p_value, difference=(only_a - only_b) / len(a_N))


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm-Bonferroni adjusted p-values: rejecting those below alpha keeps the family-wise error below alpha.

    Args:
        p_values: One p-value per comparison, each 0..1; may be empty.

    Returns:
        Adjusted p-values in the order given, each >= its p-value and <= 1, non-decreasing with it.

    Raises:
        ValueError: If `p_values` is not a vector of numbers in 0..1.

    Reference: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    p_M = np.asarray(p_values, dtype=np.float64)
    if p_M.ndim != 1:
        raise ValueError(f"p_values must be a vector, got shape {p_M.shape}")
    outside = ~((p_M >= 0) & (p_M <= 1))
    if outside.any():
        raise ValueError(f"p_values must be in 0..1, got {p_M[outside][0]}")
    order = np.argsort(p_M, kind="stable")
    stepped_M = np.minimum(np.maximum.accumulate(p_M[order] * np.arange(len(p_M), 0, -1)), 1.0)
    adjusted_M = np.empty_like(p_M)
    adjusted_M[order] = stepped_M
    return adjusted_M


def _correctness(values: ArrayLike, *, name: str) -> NDArray[np.bool_]:
    vector = np.asarray(values)
    if vector.ndim != 1 or len(vector) == 0:
        raise ValueError(f"{name} must be a non-empty vector, got shape {vector.shape}")
    if vector.dtype != np.bool_:
        strange = (vector != 0) & (vector != 1)
        if strange.any():
            raise ValueError(f"{name} must hold booleans or 0/1, got {vector[strange][0]}")
    return vector.astype(np.bool_)
