"""Intervals for a mean over test images, for a paired difference, and for a mean over seeds.

Letters beside the package's alphabet: R resamples, S seeds, U distinct values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

# Up to this many distinct values, one multinomial draw of their counts is faster than drawing N indices.
GROUPED_VALUES = 32
INDICES_PER_CHUNK = 2**22


def bootstrap_interval(
    value_N: ArrayLike, *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over test images.

    It says how far the score would move with another test set of this size; it says nothing about another
    training seed or fold (`seed_interval` does).

    Args:
        value_N: One value per image, such as 0/1 for wrong/right or a log-loss. Finite.
        level: Share of resamples inside the interval, between 0 and 1.
        draws: Number of resamples.
        seed: Seed of the resamples; the same seed gives the same interval.

    Returns:
        (low, high), in the units of `value_N`, low <= high.

    Raises:
        ValueError: If `value_N` is not a non-empty finite vector, `level` is not inside 0..1, or `draws` < 1.

    Cost: equal values are interchangeable, so for few distinct values (0/1 above all) each resample is one
    binomial or multinomial draw of their counts: the same distribution, at no cost in N. Otherwise draws x N.
    Reference: Efron, Tibshirani 1993, "An Introduction to the Bootstrap", sec. 13.3.
    """
    value_N = _finite_vector(value_N, name="value")
    _check_level(level)
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    rng = np.random.default_rng(seed)
    mean_R = _resampled_means(value_N, draws, rng)
    low, high = np.quantile(mean_R, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_bootstrap_interval(
    a_N: ArrayLike, b_N: ArrayLike, *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of mean(a) - mean(b), resampling images with both values together.

    Args:
        a_N: One value per image for the first run. Finite.
        b_N: The same images, in the same order, for the second run. Finite.
        level: Share of resamples inside the interval, between 0 and 1.
        draws: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        (low, high) of the difference; exactly the negated, swapped interval when a and b change places is
        not promised, because the resamples are random.

    Raises:
        ValueError: If the two differ in length, or as `bootstrap_interval`.
    """
    a_N, b_N = _finite_vector(a_N, name="a"), _finite_vector(b_N, name="b")
    if len(a_N) != len(b_N):
        raise ValueError(f"a and b must hold the same images, got {len(a_N)} and {len(b_N)} values")
    return bootstrap_interval(a_N - b_N, level=level, draws=draws, seed=seed)


def seed_interval(value_S: ArrayLike, *, level: float = 0.95) -> tuple[float, float] | None:
    """Student-t interval of the mean over training seeds.

    Args:
        value_S: One score per seed. Finite.
        level: Coverage, between 0 and 1.

    Returns:
        (low, high); None for a single seed, whose spread can't be known.

    Raises:
        ValueError: If `value_S` is not a non-empty finite vector, or `level` is not inside 0..1.
    """
    value_S = _finite_vector(value_S, name="value")
    _check_level(level)
    num_seeds = len(value_S)
    if num_seeds == 1:
        return None
    half = stats.t.ppf((1 + level) / 2, num_seeds - 1) * value_S.std(ddof=1) / np.sqrt(num_seeds)
    return float(value_S.mean() - half), float(value_S.mean() + half)


def _resampled_means(value_N: NDArray[np.float64], draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    num_images = len(value_N)
    value_U, count_U = np.unique(value_N, return_counts=True)
    if len(value_U) == 2:
        # N draws with replacement from zeros and ones: the number of ones is binomial
        count_R = rng.binomial(num_images, count_U[1] / num_images, size=draws)
        return value_U[0] + (value_U[1] - value_U[0]) * (count_R / num_images)
    if len(value_U) <= GROUPED_VALUES:
        count_RU = rng.multinomial(num_images, count_U / num_images, size=draws)
        return count_RU @ value_U / num_images
    mean_R = np.empty(draws)
    step = max(1, INDICES_PER_CHUNK // num_images)
    for start in range(0, draws, step):
        index_RN = rng.integers(num_images, size=(min(step, draws - start), num_images))
        mean_R[start : start + step] = value_N[index_RN].mean(axis=1)
    return mean_R


def _finite_vector(values: ArrayLike, *, name: str) -> NDArray[np.float64]:
    vector: NDArray[Any] = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or len(vector) == 0:
        raise ValueError(f"{name} must be a non-empty vector, got shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} must be finite, got {vector[~np.isfinite(vector)][0]}")
    return vector


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
