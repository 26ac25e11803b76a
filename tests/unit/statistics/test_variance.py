"""Shares of variance against closed forms and scipy's F; rank correlations against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pretext.statistics.variance import PARTS, rank_correlation, variance_shares


def _grid(rows, columns, seeds=1, *, row=1.0, column=1.0, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    cell_AB = row * rng.normal(size=(rows, 1)) + column * rng.normal(size=(1, columns))
    return (cell_AB + noise * rng.normal(size=(rows, columns)))[..., None] + np.zeros(seeds)


def test_additive_grid_has_the_variances_of_its_margins():
    row_A, column_B = np.array([0.0, 1.0, 5.0]), np.array([2.0, 4.0, 4.0, 10.0])
    shares = variance_shares((row_A[:, None] + column_B)[..., None], draws=10)
    total = row_A.var() + column_B.var()
    assert shares["rows"].eta == pytest.approx(row_A.var() / total)
    assert shares["columns"].eta == pytest.approx(column_B.var() / total)
    assert shares["rest"].eta == pytest.approx(0, abs=1e-12)
    assert tuple(shares) == PARTS


def test_shares_of_any_grid_add_up_to_one():
    value_ABS = np.random.default_rng(3).normal(size=(5, 4, 3))
    assert sum(share.eta for share in variance_shares(value_ABS, draws=5).values()) == pytest.approx(1)


def test_one_way_effect_agrees_with_scipys_f():
    # With columns that are mere repeats of a row, the rows' effect is that of a one-way analysis.
    value_AB = np.random.default_rng(1).normal(size=(4, 6)) + np.arange(4)[:, None]
    f_value = stats.f_oneway(*value_AB).statistic
    shares = variance_shares(value_AB[..., None], draws=5)
    between, within = 3 * f_value, 20.0
    assert shares["rows"].eta == pytest.approx(between / (between + within))
    assert shares["columns"].eta + shares["rest"].eta == pytest.approx(within / (between + within))


def test_corrected_share_of_pure_chance_is_zero_on_average_though_more_levels_explain_more():
    rng = np.random.default_rng(0)
    found = [variance_shares(rng.normal(size=(14, 4, 1)), draws=1) for _ in range(300)]
    eta = {name: np.mean([shares[name].eta for shares in found]) for name in PARTS}
    assert eta["rows"] == pytest.approx(13 / 55, abs=0.02)
    assert eta["columns"] == pytest.approx(3 / 55, abs=0.01)
    for name in ("rows", "columns"):
        assert np.mean([shares[name].omega for shares in found]) == pytest.approx(0, abs=0.02)
    assert found[0]["rest"].omega is None


def test_corrected_share_is_the_textbooks():
    value_AB = _grid(5, 3, noise=0.5)[..., 0]
    shares = variance_shares(value_AB[..., None], draws=5)
    total = ((value_AB - value_AB.mean()) ** 2).sum()
    noise = shares["rest"].eta * total / 8
    assert shares["rows"].omega == pytest.approx((shares["rows"].eta * total - 4 * noise) / (total + noise))
    assert shares["columns"].omega == pytest.approx((shares["columns"].eta * total - 2 * noise) / (total + noise))


def test_interval_covers_the_share_and_widens_with_noise():
    quiet = variance_shares(_grid(14, 4, row=0, noise=0.05), draws=500)["columns"]
    noisy = variance_shares(_grid(14, 4, row=0, noise=1.0), draws=500)["columns"]
    for share in (quiet, noisy):
        assert share.interval[0] <= share.eta <= share.interval[1]
        assert share.omega_interval[0] <= share.omega <= share.omega_interval[1]
    assert noisy.interval[1] - noisy.interval[0] > quiet.interval[1] - quiet.interval[0]


def test_seeds_of_a_cell_are_drawn_too():
    # Rows are all alike, so only the draw of seeds can move the shares.
    value_ABS = np.tile(np.array([[[0.0, 1.0, 4.0], [2.0, 9.0, 3.0]]]), (3, 1, 1))
    share = variance_shares(value_ABS, draws=300)["columns"]
    assert share.eta == pytest.approx(1)
    assert share.interval[0] < 0.9
    assert variance_shares(value_ABS.mean(2, keepdims=True), draws=50)["columns"].interval == pytest.approx((1, 1))


def test_same_seed_gives_the_same_interval():
    value_ABS = _grid(6, 4, 2, noise=0.4)
    assert variance_shares(value_ABS, draws=50, seed=4) == variance_shares(value_ABS, draws=50, seed=4)
    assert variance_shares(value_ABS, draws=50, seed=4) != variance_shares(value_ABS, draws=50, seed=5)


def test_cells_that_are_all_equal_explain_nothing():
    shares = variance_shares(np.full((3, 4, 2), 0.1), draws=20)
    assert all(share.eta == 0 and share.omega is None and share.interval == (0, 0) for share in shares.values())


@pytest.mark.parametrize("value", [np.zeros((3, 4)), np.zeros((1, 4, 1)), np.zeros((3, 1, 1)), np.zeros((3, 4, 0)),
                                   np.full((3, 4, 1), np.nan)])  # fmt: skip
def test_grids_that_are_none_are_refused(value):
    with pytest.raises(ValueError, match="value must be"):
        variance_shares(value)


def test_rank_correlation_is_scipys_with_ties():
    rng = np.random.default_rng(2)
    x_N, y_N = rng.integers(0, 6, 20), rng.normal(size=20)
    rho, (low, high) = rank_correlation(x_N, y_N, draws=500)
    assert rho == pytest.approx(stats.spearmanr(x_N, y_N).statistic)
    assert low < rho < high


def test_interval_of_a_correlation_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        x_N, y_N = rng.normal(size=(2, 30))
        _, (low, high) = rank_correlation(x_N, y_N, draws=200)
        covered += low <= 0 <= high
    assert 0.87 < covered / 200 < 0.99


def test_perfect_order_has_correlation_one():
    x_N = np.arange(6.0)
    assert rank_correlation(x_N, np.exp(x_N), draws=100) == (pytest.approx(1), pytest.approx((1, 1)))
    assert rank_correlation(x_N, -x_N, draws=100)[0] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("x", "y"), [([1, 2, 3], [1, 2, 3]), ([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 2, 3, 4], [7, 7, 7, 7])]
)
def test_too_few_pairs_or_none_that_vary_have_no_correlation(x, y):
    assert rank_correlation(x, y) is None


def test_wrong_vectors_levels_and_draws_are_refused():
    with pytest.raises(ValueError, match="one length"):
        rank_correlation([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="must be finite"):
        rank_correlation([1, 2, 3, np.inf], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="level must be"):
        variance_shares(np.zeros((2, 2, 1)), level=1.0)
    with pytest.raises(ValueError, match="draws must be"):
        rank_correlation([1, 2, 3, 4], [1, 2, 3, 4], draws=0)
