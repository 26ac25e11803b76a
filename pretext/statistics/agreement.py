"""How well a distance between images agrees with what people said of them, with intervals over groups of judgments.

Letters: N judgments, G groups (judgments that share a reference image), M resampled judgments, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from pretext.statistics.bootstrap import INDICES_PER_CHUNK, _check_level, _finite_vector

Vector = NDArray[np.float64]
# of the logistic, in standard deviations of the distance: from nearly a step to nearly a straight line
SLOPE_WIDTHS = np.geomspace(0.003, 30, 13)
CENTRE_LIMIT = 10.0


def agreement(distance_a_N: ArrayLike, distance_b_N: ArrayLike, votes_a_N: ArrayLike, votes_b_N: ArrayLike) -> Vector:
    """Share of judges who agree with a distance about which of two images is nearer to a reference (2AFC).

    Args:
        distance_a_N: Distance of the first image to the reference, finite; the smaller of the two is preferred.
        distance_b_N: Distance of the second.
        votes_a_N: Judges who found the first one nearer, >= 0; counts or shares.
        votes_b_N: Judges who found the second one nearer; the two together are above 0.

    Returns:
        (N,) in 0..1; 0.5 where both distances are equal. Its mean is the 2AFC score.

    Raises:
        ValueError: If the lengths differ, a value is not finite, or nobody voted.

    Source: Zhang et al. 2018, arXiv 1801.03924.
    """
    share_a_N = _share_a(votes_a_N, votes_b_N)
    a_N, b_N = _finite_vector(distance_a_N, name="distance_a"), _finite_vector(distance_b_N, name="distance_b")
    _check_lengths(distance_a=a_N, distance_b=b_N, votes=share_a_N)
    return np.where(a_N == b_N, 0.5, np.where(a_N < b_N, share_a_N, 1 - share_a_N))


def human_ceiling(votes_a_N: ArrayLike, votes_b_N: ArrayLike) -> Vector:
    """Chance p^2 + (1-p)^2 that two judges, drawn with replacement, agree; its mean is how well a person would score.

    A metric can score higher, up to `majority_ceiling`: it may always side with the majority, one judge does not. Of
    few judges it is too high, by 2 p (1-p) / judges on average, as the same judge may be drawn twice.

    Returns:
        (N,) in 0.5..1.

    Raises:
        ValueError: As `agreement`.
    """
    share_a_N = _share_a(votes_a_N, votes_b_N)
    return share_a_N**2 + (1 - share_a_N) ** 2


def majority_ceiling(votes_a_N: ArrayLike, votes_b_N: ArrayLike) -> Vector:
    """Share of the larger camp, max(p, 1-p), (N,) in 0.5..1: no metric can have a higher `agreement`.

    Raises:
        ValueError: As `agreement`.
    """
    share_a_N = _share_a(votes_a_N, votes_b_N)
    return np.maximum(share_a_N, 1 - share_a_N)


def jnd_map(distance_N: ArrayLike, same_share_N: ArrayLike) -> float:
    """Average precision of small distances as a sign that people take two images for the same.

    A pair that a third of the judges took for the same counts as a third of a hit and two thirds of a miss. Precision
    at each recall is the best at that recall or beyond it, as in PASCAL VOC from 2010 on and in BAPPS's own
    evaluation; scikit-learn's `average_precision_score` does not interpolate and so is never higher. Pairs of equal
    distance enter together.

    Args:
        distance_N: Distance of each pair, finite.
        same_share_N: Share of judges who said "same", 0..1; at least one above 0.

    Returns:
        0..1; the mean of `same_share_N` is what a constant distance reaches.

    Raises:
        ValueError: If the lengths differ, a value is outside its range, or no share is above 0.

    Source: Zhang et al. 2018, arXiv 1801.03924; Everingham et al. 2015, International Journal of Computer Vision 111.
    """
    distance_N, same_N = _finite_vector(distance_N, name="distance"), _finite_vector(same_share_N, name="same_share")
    _check_lengths(distance=distance_N, same_share=same_N)
    outside = (same_N < 0) | (same_N > 1)
    if outside.any():
        raise ValueError(f"same_share must be in 0..1, got {same_N[outside][0]}")
    if not same_N.any():
        raise ValueError("same_share must be above 0 for at least one pair, got only zeros")
    order = np.argsort(distance_N, kind="stable")
    sorted_N = distance_N[order]
    last = np.append(np.flatnonzero(sorted_N[1:] > sorted_N[:-1]), len(order) - 1)
    hits = np.cumsum(same_N[order])[last]
    precision = np.maximum.accumulate((hits / (last + 1))[::-1])[::-1]
    return float(np.sum(np.diff(hits, prepend=0.0) * precision) / hits[-1])


def srcc(distance_N: ArrayLike, score_N: ArrayLike) -> float:
    """Spearman's rank correlation of opinions with the negative distance; 0 where either is constant.

    As of `plcc` and `krcc`: 1 is a distance that falls exactly as opinions rise.

    Args:
        distance_N: Distance of each distorted image to its reference, finite.
        score_N: Mean opinion of it, finite; higher is better.

    Raises:
        ValueError: If the lengths differ or a value is not finite.
    """
    closeness_N, score_N, constant = _closeness(distance_N, score_N)
    return 0.0 if constant else float(stats.spearmanr(closeness_N, score_N).statistic)


def krcc(distance_N: ArrayLike, score_N: ArrayLike) -> float:
    """Kendall's rank correlation (tau-b) of opinions with the negative distance; 0 where either is constant."""
    closeness_N, score_N, constant = _closeness(distance_N, score_N)
    return 0.0 if constant else float(stats.kendalltau(closeness_N, score_N).statistic)


def plcc(distance_N: ArrayLike, score_N: ArrayLike) -> float:
    """Pearson's correlation of opinions with the distance after a monotone logistic of four parameters is fitted to it.

    The curve low + (high - low) / (1 + exp(-(x - centre) / width)) of the negative distance x takes the metric's
    arbitrary scale away. Fitting it by least squares is the same as finding the centre and width of highest squared
    correlation, as low and high only shift and stretch: a grid of starts, then Nelder-Mead, with no start to tune. The
    width is kept within 0.003..30 standard deviations of the distance, so that a curve can't become a step. It is
    negative where opinions rise with the distance, and 0 where either is constant.

    Source: VQEG 2000, "Final report from the Video Quality Experts Group on the validation of objective models".
    """
    closeness_N, score_N, constant = _closeness(distance_N, score_N)
    if constant:
        return 0.0
    x_N = (closeness_N - closeness_N.mean()) / closeness_N.std()
    y_N = (score_N - score_N.mean()) / np.linalg.norm(score_N - score_N.mean())

    def correlation(parameters: Vector) -> float:
        curve_N = np.tanh((x_N - parameters[0]) / (2 * np.exp(parameters[1])))  # a logistic from -1 to 1
        curve_N -= curve_N.mean()
        norm = np.linalg.norm(curve_N)
        return float(curve_N @ y_N / norm) if norm > 1e-12 else 0.0

    centres = np.quantile(x_N, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]).clip(-CENTRE_LIMIT, CENTRE_LIMIT)
    starts = [np.array([centre, width]) for centre in centres for width in np.log(SLOPE_WIDTHS)]
    start = max(starts, key=lambda parameters: abs(correlation(parameters)))
    bounds = [(-CENTRE_LIMIT, CENTRE_LIMIT), tuple(np.log(SLOPE_WIDTHS[[0, -1]]))]
    best = optimize.minimize(
        lambda parameters: -abs(correlation(parameters)), start,
        method="Nelder-Mead", bounds=bounds, options={"xatol": 1e-3, "fatol": 1e-7},
    )  # fmt: skip
    return correlation(best.x)


def cluster_interval(
    statistic: Callable[[NDArray[np.int64]], float],
    group_N: ArrayLike,
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of any score, drawing whole groups of judgments.

    Judgments that share a reference image are alike; drawing them one by one would make the interval too narrow.

    Args:
        statistic: Takes indices of judgments, (M,) int64 with repeats, and returns the score of these.
        group_N: Each judgment's group, integers.
        draws: Number of resamples.
        seed: Seed of the resamples; the same seed and groups give the same resamples, so scores can be paired.
        level: Share of resamples inside the interval, between 0 and 1.

    Returns:
        (low, high); None for a single group, whose spread can't be known.

    Raises:
        ValueError: If `group_N` is not a non-empty vector, `level` is not inside 0..1, or `draws` < 1.

    Cost: `draws` calls of `statistic`.
    Source: Davison, Hinkley 1997, "Bootstrap Methods and their Application", section 3.8.
    """
    group_N, num_groups = _number_groups(group_N, level=level, draws=draws)
    if num_groups == 1:
        return None
    order = np.argsort(group_N, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(group_N[order])) + 1)
    value_R = [
        statistic(np.concatenate([members[group] for group in drawn_G]))
        for drawn_RG in _draw_groups(num_groups, draws, seed)
        for drawn_G in drawn_RG
    ]
    return _percentiles(np.array(value_R), level)


def cluster_mean_interval(
    value_N: ArrayLike, group_N: ArrayLike, *, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float] | None:
    """`cluster_interval` of a mean, with the same resamples, from each group's sum and size alone.

    Args:
        value_N: One value per judgment, finite; such as `agreement`, or the difference of two metrics' agreements,
            whose interval is then a paired one.
        group_N: Each judgment's group, integers.
        draws: Number of resamples.
        seed: Seed of the resamples.
        level: Share of resamples inside the interval, between 0 and 1.

    Returns:
        (low, high) in the units of `value_N`; None for a single group.

    Raises:
        ValueError: If the lengths differ, a value is not finite, or as `cluster_interval`.

    Cost: draws x groups.
    """
    value_N = _finite_vector(value_N, name="value")
    group_N, num_groups = _number_groups(group_N, level=level, draws=draws)
    _check_lengths(value=value_N, group=group_N)
    if num_groups == 1:
        return None
    sum_G = np.bincount(group_N, weights=value_N)
    size_G = np.bincount(group_N)
    means = [
        sum_G[drawn_RG].sum(axis=1) / size_G[drawn_RG].sum(axis=1) for drawn_RG in _draw_groups(num_groups, draws, seed)
    ]
    return _percentiles(np.concatenate(means), level)


def _draw_groups(num_groups: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the groups of some resamples at a time, (resamples, groups)."""
    rng = np.random.default_rng(seed)
    step = max(1, INDICES_PER_CHUNK // num_groups)
    for start in range(0, draws, step):
        yield rng.integers(num_groups, size=(min(step, draws - start), num_groups))


def _percentiles(value_R: Vector, level: float) -> tuple[float, float]:
    low, high = np.quantile(value_R, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _number_groups(groups: ArrayLike, *, level: float, draws: int) -> tuple[NDArray[np.int64], int]:
    _check_level(level)
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    group_N = np.asarray(groups)
    if group_N.ndim != 1 or len(group_N) == 0:
        raise ValueError(f"group must be a non-empty vector, got shape {group_N.shape}")
    names, number_N = np.unique(group_N, return_inverse=True)
    return number_N, len(names)


def _share_a(votes_a_N: ArrayLike, votes_b_N: ArrayLike) -> Vector:
    a_N, b_N = _finite_vector(votes_a_N, name="votes_a"), _finite_vector(votes_b_N, name="votes_b")
    _check_lengths(votes_a=a_N, votes_b=b_N)
    wrong = (a_N < 0) | (b_N < 0) | (a_N + b_N == 0)
    if wrong.any():
        raise ValueError(f"votes must be >= 0 and not both 0, got {a_N[wrong][0]} and {b_N[wrong][0]}")
    return a_N / (a_N + b_N)


def _closeness(distance_N: ArrayLike, score_N: ArrayLike) -> tuple[Vector, Vector, bool]:
    """Return the negative distance, the score, and whether either is constant, so that there is no order to compare."""
    distance_N, score_N = _finite_vector(distance_N, name="distance"), _finite_vector(score_N, name="score")
    _check_lengths(distance=distance_N, score=score_N)
    return -distance_N, score_N, not (np.ptp(distance_N) and np.ptp(score_N))


def _check_lengths(**vectors: NDArray[np.generic]) -> None:
    lengths = {name: len(vector) for name, vector in vectors.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{', '.join(lengths)} must have one length, got {', '.join(map(str, lengths.values()))}")
