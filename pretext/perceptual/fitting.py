"""Non-negative weights of a network's channels, fitted to what people said of images.

Letters beside the package's alphabet: K terms (one a channel), P pairs of images, S strengths, V variables of a fit.
A pair's term is the mean squared difference of one channel; the fitted distance is their weighted sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import expit, log_expit

Vector = NDArray[np.float64]
Index = NDArray[np.int64]

MAX_ITERATIONS = 500
TOLERANCE = 1e-9  # relative decrease of the loss
LINK_MARGIN = 0.5  # share of the scores' range by which the link's ends may lie outside of it
ROWS_PER_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Preferences:
    """Which of two pairs people found more alike.

    Args:
        term_PK: Terms of every pair, float32 or float64, finite, >= 0.
        pair_a_N: Row of the pair (reference, a) of each judgment.
        pair_b_N: Row of the pair (reference, b).
        votes_a_N: Votes, or share of them, for a as the more alike; >= 0.
        votes_b_N: Votes for b.
    """

    term_PK: NDArray[np.floating]
    pair_a_N: Index
    pair_b_N: Index
    votes_a_N: Vector
    votes_b_N: Vector

    def __len__(self) -> int:
        return len(self.pair_a_N)

    @property
    def amount(self) -> float:
        """What the judgments count for beside others."""
        return float(self.votes_a_N.sum() + self.votes_b_N.sum())

    def take(self, index_n: Index) -> Preferences:
        """Some of the judgments; the terms are shared, not copied."""
        return replace(self, pair_a_N=self.pair_a_N[index_n], pair_b_N=self.pair_b_N[index_n],
                       votes_a_N=self.votes_a_N[index_n], votes_b_N=self.votes_b_N[index_n])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Opinions:
    """How good people found an image beside its reference.

    Args:
        term_PK: Terms of every pair, float32 or float64, finite, >= 0.
        pair_N: Row of the pair (reference, distorted image) of each judgment.
        score_N: Mean opinion, higher is better.
    """

    term_PK: NDArray[np.floating]
    pair_N: Index
    score_N: Vector

    def __len__(self) -> int:
        return len(self.pair_N)

    @property
    def amount(self) -> float:
        """What the judgments count for beside others."""
        return float(len(self))

    def take(self, index_n: Index) -> Opinions:
        """Some of the judgments; the terms are shared, not copied."""
        return replace(self, pair_N=self.pair_N[index_n], score_N=self.score_N[index_n])


@dataclass(frozen=True, slots=True)
class Fit:
    """What a fit found.

    Args:
        weight_K: Weights of the terms as they are, >= 0.
        loss: On the judgments it was fitted to, without the penalty; per vote (nats), or squared per judgment.
        link: Of opinions only: (low, high, offset) of score = low + (high - low) * sigmoid(offset - distance).
    """

    weight_K: Vector
    loss: float
    link: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Which strength was chosen, and why.

    Args:
        strength: The chosen one.
        loss_S: Held-out loss of every strength, in the order they were given.
    """

    strength: float
    loss_S: Vector


def fit_triplets(data: Preferences, *, strength: float) -> Fit:
    """Weights under which the distances explain best which image people found more alike.

    A judge prefers a with probability sigmoid(d_b - d_a), d = weights . terms. Minimised is the mean negative
    log-likelihood of a vote plus `strength` times the sum of squared weights, those of differences d_b - d_a scaled to
    a root mean square of 1. The problem is convex, so the start does not matter.

    Args:
        data: The judgments.
        strength: Of the penalty, >= 0.

    Returns:
        The fit. A term that never differs between the two pairs has weight 0.

    Raises:
        ValueError: If shapes do not fit, a term is negative or not finite, no vote was cast, or strength is negative.

    Cost: per step of L-BFGS-B two products of the terms (P, K) with a vector, in their dtype; P counts pairs, not
    judgments. Source: Bradley, Terry 1952, Biometrika 39; Byrd, Lu, Nocedal, Zhu 1995, SIAM J. Sci. Comput. 16.
    """
    _check(data.term_PK, (data.pair_a_N, data.pair_b_N), (data.votes_a_N, data.votes_b_N), strength)
    if (data.votes_a_N < 0).any() or (data.votes_b_N < 0).any() or data.amount <= 0:
        raise ValueError("votes must be at least 0, and some of them above")
    scale_K = _root_mean_square(data.term_PK, data.pair_b_N, data.pair_a_N)
    num_pairs = len(data.term_PK)

    def loss_and_gradient(weight_K: Vector) -> tuple[float, Vector]:
        distance_P = _product(data.term_PK, weight_K / scale_K)
        gap_N = distance_P[data.pair_b_N] - distance_P[data.pair_a_N]
        slope_N = (data.votes_b_N * expit(gap_N) - data.votes_a_N * expit(-gap_N)) / data.amount
        slope_P = np.bincount(data.pair_b_N, slope_N, num_pairs) - np.bincount(data.pair_a_N, slope_N, num_pairs)
        loss = _vote_loss(gap_N, data) + strength * float(weight_K @ weight_K)
        return loss, _product(data.term_PK.T, slope_P) / scale_K + 2 * strength * weight_K

    K = data.term_PK.shape[1]
    found_K = _minimise(loss_and_gradient, np.zeros(K), [(0.0, None)] * K) / scale_K
    return Fit(found_K, _vote_loss(_gap(data, found_K), data))


def fit_ratings(data: Opinions, *, strength: float) -> Fit:
    """Weights under which the distances explain best how good people found images.

    An image's score is low + (high - low) * sigmoid(offset - d), d = weights . terms: a falling curve, whose ends may
    lie half the scores' range outside of it (further out the curve were straight, and the penalty without effect).
    Minimised is the mean squared error of standardised scores plus `strength` times the sum of squared weights, those
    of terms scaled to a standard deviation of 1.

    Args:
        data: The judgments.
        strength: Of the penalty, >= 0.

    Returns:
        The fit; its loss is in the squared unit of the scores.

    Raises:
        ValueError: If shapes do not fit, a term is negative or not finite, all scores are equal, or strength is
            negative.

    Cost: as `fit_triplets`. The problem is not convex; the start is fixed, so equal judgments give equal weights.
    """
    _check(data.term_PK, (data.pair_N,), (data.score_N,), strength)
    center, spread = float(data.score_N.mean()), float(data.score_N.std())
    if spread == 0:
        raise ValueError("scores must not all be equal")
    target_N = (data.score_N - center) / spread
    scale_K = _deviation(data.term_PK, data.pair_N)
    num_pairs, K = data.term_PK.shape

    def loss_and_gradient(point_V: Vector) -> tuple[float, Vector]:
        weight_K, (low, high, offset) = point_V[:K], point_V[K:]
        rise_N = expit(offset - _product(data.term_PK, weight_K / scale_K)[data.pair_N])
        error_N = low + (high - low) * rise_N - target_N
        slope_N = 2 * error_N / len(error_N)
        bend_N = slope_N * (high - low) * rise_N * (1 - rise_N)
        gradient_K = -_product(data.term_PK.T, np.bincount(data.pair_N, bend_N, num_pairs)) / scale_K
        ends = [(slope_N * (1 - rise_N)).sum(), (slope_N * rise_N).sum(), bend_N.sum()]
        loss = float(error_N @ error_N) / len(error_N) + strength * float(weight_K @ weight_K)
        return loss, np.concatenate([gradient_K + 2 * strength * weight_K, ends])

    margin = LINK_MARGIN * float(np.ptp(target_N))
    lowest, highest = float(target_N.min()), float(target_N.max())
    # The start: all terms alike, the middle of the curve at the middle distance, its slope there of the scores' order.
    sum_P = _product(data.term_PK, 1 / scale_K)
    width = float(sum_P[data.pair_N].std())
    slope = 1.0 / width if width > 0 else 0.0
    start_V = np.concatenate([np.full(K, slope), [lowest, highest, slope * float(np.median(sum_P[data.pair_N]))]])
    bounds = [(0.0, None)] * K + [(lowest - margin, 0.0), (0.0, highest + margin), (None, None)]
    point_V = _minimise(loss_and_gradient, start_V, bounds)
    low, high, offset = (float(value) for value in point_V[K:])
    link = (center + spread * low, center + spread * high, offset)
    fit = Fit(point_V[:K] / scale_K, 0.0, link)
    return replace(fit, loss=loss_of(data, fit))


def loss_of(data: Preferences | Opinions, fit: Fit) -> float:
    """A fit's loss on other judgments, without the penalty: per vote in nats, or squared per judgment."""
    if isinstance(data, Preferences):
        return _vote_loss(_gap(data, fit.weight_K), data)
    assert fit.link is not None
    low, high, offset = fit.link
    predicted_P = low + (high - low) * expit(offset - _product(data.term_PK, fit.weight_K))
    return float(np.mean((predicted_P[data.pair_N] - data.score_N) ** 2))


def fit_weights(data: Preferences | Opinions, *, strength: float) -> Fit:
    """`fit_triplets` or `fit_ratings`, as the judgments are."""
    return (
        fit_triplets(data, strength=strength) if isinstance(data, Preferences) else fit_ratings(data, strength=strength)
    )


def choose_strength(data: Preferences | Opinions, group_N: Index, strengths: Sequence[float], *, k: int, seed: int = 0,
                    advance: Callable[[], object] = lambda: None) -> Choice:  # fmt: skip
    """The strength with the least loss on judgments of references that the fit has not seen; of equals the strongest.

    Args:
        data: The judgments.
        group_N: The reference of each; all of one reference's judgments lie in one fold.
        strengths: To choose from, each >= 0.
        k: Number of folds, at least 2.
        seed: Of the folds.
        advance: Called after every fit.

    Raises:
        ValueError: If there are fewer references than folds, no strength, or as the fit says.

    Cost: k fits a strength; none where there is one strength only.
    """
    if len(strengths) == 0:
        raise ValueError("strengths must hold at least one")
    if len(strengths) == 1:
        return Choice(strengths[0], np.full(1, np.nan))
    fold_N = fold_groups(group_N, k, seed)
    loss_S = np.zeros(len(strengths))
    for fold in range(k):
        inside, outside = data.take(np.flatnonzero(fold_N != fold)), data.take(np.flatnonzero(fold_N == fold))
        for s, strength in enumerate(strengths):
            loss_S[s] += loss_of(outside, fit_weights(inside, strength=strength)) * outside.amount / data.amount
            advance()
    best = loss_S.min()
    return Choice(max(strength for strength, loss in zip(strengths, loss_S, strict=True) if loss <= best), loss_S)


def fold_groups(group_N: Index, k: int, seed: int) -> Index:
    """Fold (N,), 0..k-1, of each judgment, the same for all of a reference; ValueError if there are too few of these."""
    group_G, position_N = np.unique(group_N, return_inverse=True)
    if not 2 <= k <= len(group_G):
        raise ValueError(f"k must be in 2..{len(group_G)}, the number of references, got {k}")
    return (np.random.default_rng(seed).permutation(len(group_G)) % k)[position_N]


def _gap(data: Preferences, weight_K: Vector) -> Vector:
    distance_P = _product(data.term_PK, weight_K)
    return distance_P[data.pair_b_N] - distance_P[data.pair_a_N]


def _vote_loss(gap_N: Vector, data: Preferences) -> float:
    # log sigmoid, without overflow at either end
    return -float(data.votes_a_N @ log_expit(gap_N) + data.votes_b_N @ log_expit(-gap_N)) / data.amount


def _product(matrix: NDArray[np.floating], vector: NDArray[Any]) -> Vector:
    """In the matrix's own dtype, so that it is not copied."""
    return np.asarray(matrix @ vector.astype(matrix.dtype), np.float64)


def _minimise(loss_and_gradient: Callable[[Vector], tuple[float, Vector]], start_V: Vector,
              bounds: list[tuple[float | None, float | None]]) -> Vector:  # fmt: skip
    found = optimize.minimize(loss_and_gradient, start_V, jac=True, method="L-BFGS-B", bounds=bounds,
                              options={"maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS, "ftol": TOLERANCE,
                                       "gtol": 1e-7})  # fmt: skip
    return np.asarray(found.x, np.float64)


def _root_mean_square(term_PK: NDArray[np.floating], plus_N: Index, minus_N: Index) -> Vector:
    """Of each term's difference over the judgments; infinite where it is 0, so that dividing by it leaves nothing."""
    sum_K = np.zeros(term_PK.shape[1])
    for start in range(0, len(plus_N), ROWS_PER_CHUNK):
        rows = slice(start, start + ROWS_PER_CHUNK)
        sum_K += np.square(term_PK[plus_N[rows]] - term_PK[minus_N[rows]], dtype=np.float64).sum(axis=0)
    return np.where(sum_K > 0, np.sqrt(sum_K / len(plus_N)), np.inf)


def _deviation(term_PK: NDArray[np.floating], pair_N: Index) -> Vector:
    """Standard deviation of each term over the judgments; infinite where it is constant."""
    count_P = np.bincount(pair_N, minlength=len(term_PK)).astype(np.float64)
    mean_K = _product(term_PK.T, count_P) / len(pair_N)
    sum_K = np.zeros(term_PK.shape[1])
    for start in range(0, len(term_PK), ROWS_PER_CHUNK):
        rows = slice(start, start + ROWS_PER_CHUNK)
        sum_K += count_P[rows] @ np.square(term_PK[rows] - mean_K)
    deviation_K = np.sqrt(sum_K / len(pair_N))
    return np.where(deviation_K > 1e-6 * np.abs(mean_K), deviation_K, np.inf)


def _check(term_PK: NDArray[np.floating], indices: Sequence[Index], values: Sequence[Vector], strength: float) -> None:
    if term_PK.ndim != 2 or 0 in term_PK.shape or not np.issubdtype(term_PK.dtype, np.floating):
        raise ValueError(f"term must be a float array (P, K) with P, K >= 1, got {term_PK.dtype} {term_PK.shape}")
    if not (np.isfinite(term_PK).all() and (term_PK >= 0).all()):
        raise ValueError("term must be finite and at least 0")
    lengths = {array.shape for array in (*indices, *values)}
    if len(lengths) != 1 or len(shape := lengths.pop()) != 1 or shape[0] == 0:
        raise ValueError("judgments must be vectors of one length, at least 1")
    if any(index_N.min() < 0 or index_N.max() >= len(term_PK) for index_N in indices):
        raise ValueError(f"pair must be in 0..{len(term_PK) - 1}")
    if not all(np.isfinite(value_N).all() for value_N in values):
        raise ValueError("votes and scores must be finite")
    if not strength >= 0:
        raise ValueError(f"strength must be at least 0, got {strength}")
