"""Agreement with people: closed forms, scikit-learn and scipy as oracles, and intervals over groups."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn import metrics

from pretext.statistics.agreement import (
    agreement,
    cluster_interval,
    cluster_mean_interval,
    human_ceiling,
    jnd_map,
    krcc,
    majority_ceiling,
    plcc,
    srcc,
)
from pretext.statistics.bootstrap import bootstrap_interval

CORRELATIONS = (srcc, plcc, krcc)


def test_the_nearer_image_gets_the_share_of_its_voters_and_a_tie_gets_half():
    assert agreement([1, 2, 3, 0], [2, 1, 3, 0], [3, 3, 3, 0], [1, 1, 1, 5]).tolist() == [0.75, 0.25, 0.5, 0.5]


def test_agreement_does_not_change_when_both_candidates_change_places():
    rng = np.random.default_rng(0)
    a_N, b_N = rng.integers(0, 4, 50), rng.integers(0, 4, 50)
    votes_a_N, votes_b_N = rng.integers(0, 4, 50) + 1, rng.integers(0, 4, 50)
    swapped_N = agreement(b_N, a_N, votes_b_N, votes_a_N)
    np.testing.assert_allclose(agreement(a_N, b_N, votes_a_N, votes_b_N), swapped_N, atol=1e-15)


def test_the_human_ceiling_is_how_often_two_judges_agree():
    votes_a_N, votes_b_N = [5, 3, 1, 0], [0, 2, 1, 7]
    np.testing.assert_allclose(human_ceiling(votes_a_N, votes_b_N), [1, 0.52, 0.5, 1])
    judges = [np.repeat([0, 1], votes) for votes in zip(votes_a_N, votes_b_N, strict=True)]
    drawn = [np.mean(camp[:, None] == camp[None]) for camp in judges]
    np.testing.assert_allclose(human_ceiling(votes_a_N, votes_b_N), drawn)


def test_the_majority_ceiling_is_the_better_of_both_answers():
    votes_a_N, votes_b_N = [5, 3, 1, 0], [0, 2, 1, 7]
    first_N, second_N = (
        agreement([0] * 4, [1] * 4, votes_a_N, votes_b_N),
        agreement([1] * 4, [0] * 4, votes_a_N, votes_b_N),
    )
    np.testing.assert_allclose(majority_ceiling(votes_a_N, votes_b_N), np.maximum(first_N, second_N))


@pytest.mark.parametrize(
    ("votes_a_N", "votes_b_N", "told"),
    [([0], [0], "not both 0"), ([-1], [3], "-1"), ([np.nan], [1], "finite"), ([1, 2], [1], "one length")],
)
def test_impossible_votes_are_refused(votes_a_N, votes_b_N, told):
    with pytest.raises(ValueError, match=told):
        human_ceiling(votes_a_N, votes_b_N)
    with pytest.raises(ValueError, match=told):
        agreement([1.0], [2.0], votes_a_N, votes_b_N)


def test_distances_that_are_not_numbers_or_too_few_are_refused():
    with pytest.raises(ValueError, match="distance_a must be finite"):
        agreement([np.nan], [1.0], [1], [0])
    with pytest.raises(ValueError, match="one length, got 2, 2, 1"):
        agreement([1.0, 2.0], [1.0, 2.0], [1], [0])


def envelope_area(distance_N, same_N):
    """Area under scikit-learn's curve once each precision is the best at that recall or beyond."""
    labels, weights = np.repeat([1, 0], len(same_N)), np.concatenate([same_N, 1 - same_N])
    precision, recall, _ = metrics.precision_recall_curve(labels, -np.tile(distance_N, 2), sample_weight=weights)
    best = [precision[recall >= level].max() for level in recall]
    return float(np.sum((recall[:-1] - recall[1:]) * best[:-1]))


@pytest.mark.parametrize("levels", [3, 400], ids=["many equal distances", "hardly any"])
def test_jnd_map_is_the_area_under_the_interpolated_curve_of_scikit_learn(levels):
    rng = np.random.default_rng(levels)
    same_N = rng.integers(0, 4, 200) / 3
    distance_N = np.round(levels * (rng.random(200) + 1 - same_N)) / levels
    value = jnd_map(distance_N, same_N)
    assert value == pytest.approx(envelope_area(distance_N, same_N), abs=1e-12)
    labels, weights = np.repeat([1, 0], 200), np.concatenate([same_N, 1 - same_N])
    plain = metrics.average_precision_score(labels, -np.tile(distance_N, 2), sample_weight=weights)
    assert plain - 1e-12 <= value < plain + 0.05


def test_jnd_map_of_certain_answers_equals_average_precision_where_no_point_needs_interpolation():
    same_N = np.array([1, 1, 0, 1, 0, 0, 0])
    assert jnd_map(np.arange(7), same_N) == pytest.approx(metrics.average_precision_score(same_N, -np.arange(7)))
    assert jnd_map(np.arange(7), same_N) == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert jnd_map([1, 2, 3], [0, 1, 1]) == pytest.approx(2 / 3)  # 1/2 at the first hit, lifted to the 2/3 behind it


def test_jnd_map_of_a_constant_distance_is_the_mean_share():
    assert jnd_map(np.zeros(4), [0, 1 / 3, 2 / 3, 1]) == pytest.approx(0.5)


@pytest.mark.parametrize("same_N", [[0.0, 0.0], [0.5, 1.5], [0.5, -0.1], [0.5]])
def test_jnd_map_refuses_impossible_shares(same_N):
    with pytest.raises(ValueError, match="same_share"):
        jnd_map([1.0, 2.0], same_N)


@pytest.fixture(scope="module")
def rated():
    """Distances, and opinions that fall with them along a noisy logistic."""
    rng = np.random.default_rng(7)
    distance_N = rng.gamma(2, 1, 400)
    score_N = 1 + 4 / (1 + np.exp((distance_N - 2) / 0.7)) + rng.normal(0, 0.4, 400)
    return distance_N, score_N


def test_rank_correlations_are_the_negated_ones_of_scipy(rated):
    assert srcc(*rated) == pytest.approx(-stats.spearmanr(*rated).statistic)
    assert krcc(*rated) == pytest.approx(-stats.kendalltau(*rated).statistic)
    assert min(srcc(*rated), krcc(*rated)) > 0.6


def test_rank_correlations_do_not_change_under_monotone_maps_of_the_distance(rated):
    distance_N, score_N = rated
    for mapped_N in (np.exp(distance_N), 1e-6 * distance_N**3, -1 / (1 + distance_N)):
        assert srcc(mapped_N, score_N) == pytest.approx(srcc(distance_N, score_N))
        assert krcc(mapped_N, score_N) == pytest.approx(krcc(distance_N, score_N))


def test_plcc_is_pearson_after_the_least_squares_logistic(rated):
    distance_N, score_N = rated

    def logistic(x_N, low, high, centre, width):
        return low + (high - low) / (1 + np.exp(-(x_N - centre) / width))

    fitted, _ = optimize.curve_fit(logistic, -distance_N, score_N, p0=[1, 5, -2, 0.7])
    expected = stats.pearsonr(logistic(-distance_N, *fitted), score_N).statistic
    assert plcc(distance_N, score_N) == pytest.approx(expected, abs=1e-6)
    assert plcc(distance_N, score_N) > -stats.pearsonr(distance_N, score_N).statistic + 0.01


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
def test_plcc_is_one_on_an_exact_logistic_whatever_the_scale(scale):
    distance_N = np.linspace(0, 5, 60)
    score_N = 1 / (1 + np.exp((distance_N - 1.5) / 0.4))
    assert plcc(distance_N * scale, score_N) == pytest.approx(1, abs=1e-5)


def test_plcc_is_at_least_the_plain_correlation_and_finds_a_curve_in_a_heavy_tail():
    rng = np.random.default_rng(1)
    line_N = rng.random(100)
    assert plcc(line_N, -3 * line_N + 2) == pytest.approx(1, abs=1e-3)
    tail_N = rng.gamma(2, 1, 500) ** 3
    assert plcc(tail_N, np.exp(-tail_N / 4)) > 0.999


def test_a_distance_that_rises_with_opinion_scores_below_zero(rated):
    distance_N, score_N = rated
    for correlation in CORRELATIONS:
        good, bad = correlation(distance_N, score_N), correlation(-distance_N, score_N)
        assert good > 0.6
        assert bad == pytest.approx(-good, abs=1e-5)


def test_a_constant_distance_orders_nothing():
    assert [correlation(np.full(5, 0.3), np.arange(5)) for correlation in CORRELATIONS] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_correlations_of_different_lengths_are_refused(correlation):
    with pytest.raises(ValueError, match="distance, score must have one length, got 3, 2"):
        correlation([1, 2, 3], [1, 2])


def test_both_intervals_of_a_mean_draw_the_same_groups():
    rng = np.random.default_rng(3)
    value_N, group_N = rng.random(90), rng.integers(0, 11, 90) * 5
    slow = cluster_interval(lambda index_M: float(value_N[index_M].mean()), group_N, draws=300, seed=4)
    assert slow == pytest.approx(cluster_mean_interval(value_N, group_N, draws=300, seed=4), abs=1e-12)
    assert slow != cluster_mean_interval(value_N, group_N, draws=300, seed=5)


def test_resamples_hold_whole_groups():
    group_N = np.array([2, 0, 2, 7, 2, 0])
    seen = []

    def look(index_M):
        counts = np.bincount(index_M, minlength=6)
        seen.append(tuple(counts))
        return float(len(index_M))

    cluster_interval(look, group_N, draws=200)
    for counts in seen:
        assert counts[0] == counts[2] == counts[4]
        assert counts[1] == counts[5]
        assert counts[0] + counts[1] + counts[3] == 3  # as many groups as there are
    assert len(set(seen)) == 10  # every multiset of three groups


def test_the_interval_of_groups_of_one_is_the_plain_bootstrap():
    value_N = np.random.default_rng(5).normal(size=200)
    low, high = cluster_mean_interval(value_N, np.arange(200), draws=4000)
    plain_low, plain_high = bootstrap_interval(value_N, draws=4000)
    assert (low, high) == pytest.approx((plain_low, plain_high), abs=0.02)


def test_alike_judgments_widen_the_interval_as_the_number_of_groups_says():
    rng = np.random.default_rng(6)
    group_value_G = rng.normal(size=50)
    group_N = np.repeat(np.arange(50), 20)
    low, high = cluster_mean_interval(group_value_G[group_N], group_N, draws=4000)
    expected = 2 * 1.96 * group_value_G.std() / np.sqrt(50)
    assert high - low == pytest.approx(expected, rel=0.08)
    naive_low, naive_high = bootstrap_interval(group_value_G[group_N], draws=4000)
    assert high - low > 3 * (naive_high - naive_low)


def test_a_single_group_has_no_interval():
    assert cluster_mean_interval([0.1, 0.9], [3, 3]) is None
    assert cluster_interval(lambda index_M: 0.0, [3, 3]) is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"group_N": []}, "group must be a non-empty vector"),
        ({"draws": 0}, "draws must be at least 1, got 0"),
        ({"level": 1.0}, "level must be between 0 and 1"),
        ({"value_N": [1.0, 2.0]}, "value, group must have one length, got 2, 3"),
    ],
)
def test_impossible_requests_are_refused(given, told):
    with pytest.raises(ValueError, match=told):
        cluster_mean_interval(**{"value_N": [1.0, 2.0, 3.0], "group_N": [0, 1, 1]} | given)
