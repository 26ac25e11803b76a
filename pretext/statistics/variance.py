"""What a grid of scores owes to its rows and to its columns, and rank correlations, with bootstrap intervals.

Letters beside the package's alphabet: A rows, B columns, S seeds, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Interval = tuple[float, float]
PARTS = ("rows", "columns", "rest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One part of a grid's variance.

    Attributes:
        eta: Its share of the sum of squares, 0..1 (eta squared); the three parts add up to 1.
        omega: The share less what as many levels would explain by chance (omega squared); can be below 0, and is None
            for the rest.
        interval: Percentile bootstrap interval of `eta`.
        omega_interval: The same of `omega`.
    """

    eta: float
    omega: float | None
    interval: Interval
    omega_interval: Interval | None


def variance_shares(
    value_ABS: ArrayLike, *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> dict[str, Share]:  # fmt: skip
    """Two-way analysis of variance of the cells' means: rows, columns, and the rest (interaction and noise).

    The bootstrap draws rows with replacement, as a sample of all rows there could be, and in each cell seeds with
    replacement; columns are fixed. A row that is drawn twice counts as two rows.

    Args:
        value_ABS: A score for each row, column and seed; finite, at least two rows and two columns.
        level: Share of resamples inside the intervals, between 0 and 1.
        draws: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        The shares of `PARTS`, by name. All are 0, with omega None, if no two cells differ.

    Raises:
        ValueError: If the shape is wrong, a value is not finite, `level` is not inside 0..1, or `draws` < 1.

    Cost: draws x A x B x S. Reference: Olejnik, Algina 2003, Psychological Methods 8(4).
    """
    value_ABS = np.asarray(value_ABS, dtype=np.float64)
    if value_ABS.ndim != 3 or min(value_ABS.shape[:2]) < 2 or value_ABS.shape[2] < 1:
        raise ValueError(f"value must be (rows, columns, seeds) with two rows and columns, got {value_ABS.shape}")
    if not np.isfinite(value_ABS).all():
        raise ValueError("value must be finite, got a missing cell")
    tails = _tails(level, draws)
    num_rows, num_columns, num_seeds = value_ABS.shape
    rng = np.random.default_rng(seed)
    row_RA = rng.integers(num_rows, size=(draws, num_rows))
    seed_RABS = rng.integers(num_seeds, size=(draws, num_rows, num_columns, num_seeds))
    drawn_RABS = np.take_along_axis(value_ABS[row_RA], seed_RABS, axis=3)
    eta_3, omega_3 = _shares(value_ABS.mean(axis=2)[None])
    eta_R3, omega_R3 = _shares(drawn_RABS.mean(axis=3))
    found = {}
    for index, name in enumerate(PARTS):
        has_omega = name != "rest" and np.isfinite(omega_3[0, index])
        found[name] = Share(
            eta=float(eta_3[0, index]), interval=_quantiles(eta_R3[:, index], tails),
            omega=float(omega_3[0, index]) if has_omega else None,
            omega_interval=_quantiles(omega_R3[:, index], tails) if has_omega else None,
        )  # fmt: skip
    return found


def _shares(value_RAB: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eta and omega squared of rows, columns and rest (R, 3); a grid without variance has eta 0 and omega NaN."""
    _, num_rows, num_columns = value_RAB.shape
    grand_R11 = value_RAB.mean(axis=(1, 2), keepdims=True)
    row_RA1, column_R1B = value_RAB.mean(axis=2, keepdims=True), value_RAB.mean(axis=1, keepdims=True)
    total_R = ((value_RAB - grand_R11) ** 2).sum(axis=(1, 2))
    rows_R = num_columns * ((row_RA1 - grand_R11) ** 2).sum(axis=(1, 2))
    columns_R = num_rows * ((column_R1B - grand_R11) ** 2).sum(axis=(1, 2))
    rest_R = ((value_RAB - row_RA1 - column_R1B + grand_R11) ** 2).sum(axis=(1, 2))
    square_R3 = np.stack([rows_R, columns_R, rest_R], axis=1)
    freedom_3 = np.array([num_rows - 1, num_columns - 1, (num_rows - 1) * (num_columns - 1)])
    noise_R1 = (rest_R / freedom_3[2])[:, None]
    # Equal numbers differ by rounding once they are averaged.
    varies_R1 = (total_R > 1e-24 * (1 + grand_R11[:, 0, 0] ** 2))[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        eta_R3 = np.where(varies_R1, square_R3 / total_R[:, None], 0.0)
        omega_R3 = np.where(varies_R1, (square_R3 - freedom_3 * noise_R1) / (total_R[:, None] + noise_R1), np.nan)
    return eta_R3, omega_R3


def rank_correlation(
    x_N: ArrayLike, y_N: ArrayLike, *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, Interval] | None:  # fmt: skip
    """Spearman's rank correlation with a percentile bootstrap interval over the pairs.

    Resamples of fewer than two distinct values on either side have no correlation and are left out.

    Args:
        x_N: One finite number per pair.
        y_N: The same pairs, in the same order.
        level: Share of resamples inside the interval, between 0 and 1.
        draws: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        The correlation, -1..1, and its interval; None for fewer than four pairs or where one side does not vary.

    Raises:
        ValueError: If the two are no finite vectors of one length, `level` is not inside 0..1, or `draws` < 1.

    Cost: draws x N log N. Reference: Spearman 1904, American Journal of Psychology 15.
    """
    x_N, y_N = np.asarray(x_N, dtype=np.float64), np.asarray(y_N, dtype=np.float64)
    if x_N.ndim != 1 or x_N.shape != y_N.shape:
        raise ValueError(f"x and y must be vectors of one length, got shapes {x_N.shape} and {y_N.shape}")
    if not (np.isfinite(x_N).all() and np.isfinite(y_N).all()):
        raise ValueError("x and y must be finite")
    tails = _tails(level, draws)
    if len(x_N) < 4 or len(np.unique(x_N)) < 2 or len(np.unique(y_N)) < 2:
        return None
    index_RN = np.random.default_rng(seed).integers(len(x_N), size=(draws, len(x_N)))
    (rho,) = _correlations(x_N[None], y_N[None])
    return float(rho), _quantiles(_correlations(x_N[index_RN], y_N[index_RN]), tails)


def _correlations(x_RN: NDArray[np.float64], y_RN: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's correlation of each line, NaN where one does not vary."""
    rank_x_RN, rank_y_RN = (stats.rankdata(side_RN, axis=1) for side_RN in (x_RN, y_RN))
    x_RN, y_RN = (rank_RN - rank_RN.mean(axis=1, keepdims=True) for rank_RN in (rank_x_RN, rank_y_RN))
    with np.errstate(divide="ignore", invalid="ignore"):
        rho_R: NDArray[np.float64] = (x_RN * y_RN).sum(1) / np.sqrt((x_RN**2).sum(1) * (y_RN**2).sum(1))
    return rho_R


def _tails(level: float, draws: int) -> list[float]:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    return [(1 - level) / 2, (1 + level) / 2]


def _quantiles(value_R: NDArray[np.float64], tails: list[float]) -> Interval:
    low, high = np.nanquantile(value_R, tails)
    return float(low), float(high)
