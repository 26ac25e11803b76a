"""Bootstrap and seed intervals: known distributions, coverage, determinism, and every refusal."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

from pretext.statistics.bootstrap import bootstrap_interval, paired_bootstrap_interval, seed_interval


def slow_bootstrap(value_N: np.ndarray, *, level: float, draws: int, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    means = [rng.choice(value_N, size=len(value_N), replace=True).mean() for _ in range(draws)]
    return tuple(np.quantile(means, [(1 - level) / 2, (1 + level) / 2]))


@pytest.mark.parametrize(
    "value_N",
    [
        np.random.default_rng(0).random(150) < 0.4,
        np.random.default_rng(1).integers(-1, 2, 150),
        np.random.default_rng(2).exponential(size=150),
    ],
    ids=["two values", "three values", "all different"],
)
def test_agrees_with_a_loop_over_resamples(value_N: np.ndarray) -> None:
    fast = bootstrap_interval(value_N, draws=20_000, seed=3)
    slow = slow_bootstrap(value_N.astype(float), level=0.95, draws=20_000, seed=4)
    # both quantiles are random: their own standard error is about 2 % of the spread at 20,000 draws,
    # and means of whole numbers move in steps of 1 / N
    np.testing.assert_allclose(fast, slow, rtol=0, atol=0.08 * value_N.std() / np.sqrt(150) + 1.01 / 150)


def test_matches_the_normal_limit_for_many_images() -> None:
    value_N = np.random.default_rng(0).normal(5.0, 2.0, 2000)
    half = 1.959964 * value_N.std() / np.sqrt(2000)
    low, high = bootstrap_interval(value_N, draws=4000, seed=0)
    assert low == pytest.approx(value_N.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(value_N.mean() + half, abs=0.1 * half)


def test_zeros_and_ones_follow_the_binomial_quantiles() -> None:
    low, high = bootstrap_interval(np.arange(8000) < 4000, draws=100_000)
    expected = stats.binom(8000, 0.5).ppf([0.025, 0.975]) / 8000
    np.testing.assert_allclose([low, high], expected, atol=2e-4)


def test_zeros_and_ones_cost_nothing_per_image() -> None:
    value_N = np.arange(2_000_000) % 2
    start = time.perf_counter()
    bootstrap_interval(value_N)
    assert time.perf_counter() - start < 10.0  # indices would be 2e10 draws, minutes


def test_two_values_other_than_zero_and_one_are_scaled() -> None:
    correct_N = np.random.default_rng(0).random(100) < 0.3
    plain = np.array(bootstrap_interval(correct_N, seed=1))
    np.testing.assert_allclose(bootstrap_interval(7.0 - 2.0 * ~correct_N, seed=1), 5.0 + 2.0 * plain, rtol=1e-12)


def test_constant_values_have_no_width() -> None:
    assert bootstrap_interval([0.25] * 10) == (0.25, 0.25)


def test_same_seed_same_interval_and_higher_level_is_wider() -> None:
    value_N = np.random.default_rng(0).random(50)
    narrow = bootstrap_interval(value_N, level=0.5, seed=7)
    assert narrow == bootstrap_interval(value_N, level=0.5, seed=7)
    assert narrow != bootstrap_interval(value_N, level=0.5, seed=8)
    wide = bootstrap_interval(value_N, level=0.99, seed=7)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        low, high = bootstrap_interval(rng.random(200) < 0.6, level=0.9, draws=500, seed=trial)
        hits += low <= 0.6 <= high
    assert 0.85 < hits / 300 < 0.95


def test_pairing_narrows_the_difference_of_correlated_runs() -> None:
    rng = np.random.default_rng(0)
    a_N = rng.random(1000) < 0.5
    b_N = np.where(rng.random(1000) < 0.05, ~a_N, a_N)
    low, high = paired_bootstrap_interval(a_N, b_N)
    difference_N = a_N.astype(float) - b_N
    half = 1.96 * difference_N.std() / np.sqrt(1000)
    assert (low, high) == pytest.approx((difference_N.mean() - half, difference_N.mean() + half), abs=2e-3)
    assert high - low < 0.5 * (2 * 1.96 * np.sqrt(2 * 0.25 / 1000))


def test_seed_interval_is_students_t() -> None:
    value_S = np.array([0.48, 0.50, 0.53, 0.49])
    expected = stats.t.interval(0.95, 3, loc=value_S.mean(), scale=stats.sem(value_S))
    np.testing.assert_allclose(seed_interval(value_S), expected, rtol=1e-12)


def test_two_seeds_give_the_closed_form() -> None:
    # t quantile at one degree of freedom is tan(pi (p - 1/2)); sd / sqrt(2) of {0, 2} is 1
    low, high = seed_interval([0.0, 2.0])
    assert high - 1.0 == pytest.approx(np.tan(np.pi * 0.475))
    assert low + high == pytest.approx(2.0)


def test_one_seed_has_no_interval() -> None:
    assert seed_interval([0.5]) is None


@pytest.mark.parametrize("function", [bootstrap_interval, seed_interval])
def test_refuses_what_is_not_a_finite_vector(function) -> None:
    with pytest.raises(ValueError, match=r"non-empty vector, got shape \(0,\)"):
        function([])
    with pytest.raises(ValueError, match=r"got shape \(2, 2\)"):
        function(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="value must be finite, got nan"):
        function([1.0, np.nan])
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 95"):
        function([1.0, 2.0], level=95)


def test_refuses_no_draws_and_unpaired_images() -> None:
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        bootstrap_interval([1.0], draws=0)
    with pytest.raises(ValueError, match="same images, got 2 and 3"):
        paired_bootstrap_interval([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="b must be finite, got inf"):
        paired_bootstrap_interval([0, 1], [0, np.inf])
