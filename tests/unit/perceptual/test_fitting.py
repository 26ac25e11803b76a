"""Fits recover the weights that made the judgments, stay at or above zero, and agree with unconstrained solvers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge

from pretext.perceptual.fitting import (
    Opinions,
    Preferences,
    choose_strength,
    fit_ratings,
    fit_triplets,
    loss_of,
)

TRUE_K = np.array([4.0, 0, 2, 0, 0, 1, 0, 0])


def terms(rng, P, K):
    return rng.gamma(2.0, 0.5, (P, K))


def preferences(rng, *, true_K=TRUE_K, P=400, N=3000, votes=5, scale_K=1.0):
    term_PK = terms(rng, P, len(true_K))
    a_N, b_N = rng.integers(P, size=(2, N))
    chance_N = expit((term_PK @ true_K)[b_N] - (term_PK @ true_K)[a_N])
    votes_a_N = rng.binomial(votes, chance_N).astype(float)
    return Preferences(term_PK * scale_K, a_N, b_N, votes_a_N, votes - votes_a_N)


def opinions(rng, *, link=(1.0, 9.0, 5.0), noise=0.2, P=600):
    term_PK = terms(rng, P, len(TRUE_K))
    low, high, offset = link
    score_P = low + (high - low) * expit(offset - term_PK @ TRUE_K)
    return Opinions(term_PK, np.arange(P), score_P + noise * rng.standard_normal(P))


def test_triplets_give_back_the_sparse_weights_that_made_them():
    fit = fit_triplets(preferences(np.random.default_rng(0)), strength=0)
    assert np.abs(fit.weight_K - TRUE_K).max() < 0.25
    assert (fit.weight_K >= 0).all()
    assert (fit.weight_K[TRUE_K == 0] == 0).mean() >= 0.4  # the bound holds where noise pulls below it


def test_ratings_give_back_the_weights_and_the_link_that_made_them():
    fit = fit_ratings(opinions(np.random.default_rng(1)), strength=0)
    assert fit.weight_K == pytest.approx(TRUE_K, abs=0.25)
    assert fit.link == pytest.approx((1, 9, 5), rel=0.1)
    assert fit.loss == pytest.approx(0.2**2, rel=0.15)


def test_without_an_active_bound_triplets_are_logistic_regression():
    data = preferences(np.random.default_rng(2), true_K=np.array([1.0, 2.0, 0.5]), votes=1)
    gap_NK = data.term_PK[data.pair_b_N] - data.term_PK[data.pair_a_N]
    scale_K = np.sqrt((gap_NK**2).mean(axis=0))
    strength = 0.01
    model = LogisticRegression(C=1 / (2 * strength * len(data)), fit_intercept=False, tol=1e-10)
    model.fit(gap_NK / scale_K, data.votes_a_N)
    fit = fit_triplets(data, strength=strength)
    assert fit.weight_K == pytest.approx(model.coef_[0] / scale_K, rel=1e-3)


def test_no_weights_cost_a_coin_toss_and_ever_stronger_penalties_lead_there():
    data = preferences(np.random.default_rng(3), N=500)
    fits = [fit_triplets(data, strength=strength) for strength in (1e-3, 1e-1, 1e1, 1e6)]
    assert np.all(np.diff([fit.loss for fit in fits]) > 0)
    assert fits[-1].loss == pytest.approx(np.log(2), abs=1e-4)


def test_strongly_penalised_rating_weights_are_the_terms_covariances_with_the_score():
    # near zero the link is straight, and ridge regression with a strong penalty ends at the covariances too
    data = opinions(np.random.default_rng(4), link=(0.0, 60.0, 3.7), noise=2.0)
    deviation_K = data.term_PK.std(axis=0)
    ridge_K = -Ridge(alpha=1e6).fit(data.term_PK / deviation_K, data.score_N).coef_
    weight_K = fit_ratings(data, strength=1e4).weight_K * deviation_K
    assert np.corrcoef(weight_K, np.maximum(ridge_K, 0))[0, 1] > 0.9999


@pytest.mark.parametrize("fit", ["triplets", "ratings"])
def test_the_units_of_a_term_do_not_matter(fit):
    rng = np.random.default_rng(5)
    unit_K = 10.0 ** np.arange(-4, 4)
    data = preferences(rng) if fit == "triplets" else opinions(rng)
    other = type(data)(data.term_PK * unit_K, *[getattr(data, name) for name in data.__slots__[1:]])
    run = fit_triplets if fit == "triplets" else fit_ratings
    found, rescaled = run(data, strength=1e-2), run(other, strength=1e-2)
    assert rescaled.weight_K * unit_K == pytest.approx(found.weight_K, rel=1e-3, abs=1e-4)


def test_votes_count_as_often_as_they_were_cast():
    rng = np.random.default_rng(6)
    data = preferences(rng, N=200)
    single = [np.repeat(array, 5) for array in (data.pair_a_N, data.pair_b_N)]
    is_a = np.concatenate([np.arange(5) < votes for votes in data.votes_a_N]).astype(float)
    one_by_one = Preferences(data.term_PK, *single, is_a, 1 - is_a)
    assert fit_triplets(one_by_one, strength=0.01).weight_K == pytest.approx(
        fit_triplets(data, strength=0.01).weight_K, abs=1e-4
    )


def test_terms_that_never_differ_get_no_weight_and_do_no_harm():
    rng = np.random.default_rng(7)
    for data, run in ((preferences(rng), fit_triplets), (opinions(rng), fit_ratings)):
        data.term_PK[:, 3] = 0.7
        fit = run(data, strength=0)
        assert fit.weight_K[3] == 0
        assert np.isfinite(fit.weight_K).all()


def test_equal_judgments_give_equal_bits_in_single_precision_too():
    data = preferences(np.random.default_rng(8), N=500)
    single = Preferences(data.term_PK.astype(np.float32), *[getattr(data, name) for name in data.__slots__[1:]])
    first, again = fit_triplets(single, strength=1e-3), fit_triplets(single, strength=1e-3)
    assert np.array_equal(first.weight_K, again.weight_K)
    assert first.weight_K == pytest.approx(fit_triplets(data, strength=1e-3).weight_K, abs=1e-2)


def noisy(rng):
    """Few judgments of many terms, most of which say nothing: a fit without penalty learns the noise."""
    true_K = np.zeros(60)
    true_K[:3] = 1
    data = preferences(rng, true_K=true_K, N=300, votes=1)
    return data, rng.integers(30, size=300)


def test_the_chosen_strength_is_the_one_that_does_best_on_new_judgments():
    rng = np.random.default_rng(9)
    data, group_N = noisy(rng)
    a_n, b_n = rng.integers(len(data.term_PK), size=(2, 20_000))
    chance_n = expit((data.term_PK[b_n] - data.term_PK[a_n])[:, :3].sum(axis=1))
    new = Preferences(data.term_PK, a_n, b_n, chance_n, 1 - chance_n)
    strengths = (1e-5, 1e-1, 1e3)
    choice = choose_strength(data, group_N, strengths, k=5, seed=0)
    losses = [loss_of(new, fit_triplets(data, strength=strength)) for strength in strengths]
    assert choice.strength == strengths[int(np.argmin(losses))] == 1e-1
    assert choice.loss_S == pytest.approx(losses, rel=0.15)


def test_a_reference_is_never_on_both_sides_of_a_fold():
    # Judgments of a reference are copies of each other but for whom they favour, which only the reference decides: a
    # fit that has seen the reference predicts its other judgments, one that has not predicts at chance or worse.
    rng = np.random.default_rng(10)
    G, copies = 40, 6
    term_PK = rng.gamma(2.0, 0.5, (2 * G, 200))
    favours_G = rng.integers(2, size=G).astype(float)
    group_N = np.repeat(np.arange(G), copies)
    data = Preferences(term_PK, group_N, group_N + G, favours_G[group_N], 1 - favours_G[group_N])
    assert fit_triplets(data, strength=1e-2).loss < 0.5
    assert choose_strength(data, group_N, (1e-2, 1e-2), k=5).loss_S.min() > np.log(2)


def test_of_equal_strengths_the_strongest_is_taken_and_one_needs_no_folds():
    data, group_N = noisy(np.random.default_rng(11))
    data.term_PK[:] = 1  # nothing to learn: all strengths are alike
    assert choose_strength(data, group_N, (0.1, 10.0, 1.0), k=3).strength == 10
    assert choose_strength(data, np.zeros(300, int), (0.5,), k=5).strength == 0.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"term_PK": np.full((3, 2), -1.0)}, "term must be finite and at least 0"),
        ({"term_PK": np.ones((3, 2), int)}, "term must be a float array"),
        ({"pair_a_N": np.array([0, 3])}, r"pair must be in 0\.\.2"),
        ({"pair_a_N": np.array([0])}, "of one length"),
        ({"votes_a_N": np.array([1, np.nan])}, "must be finite"),
        ({"votes_a_N": np.array([1.0, -1.0])}, "votes must be at least 0"),
        ({"votes_a_N": np.zeros(2), "votes_b_N": np.zeros(2)}, "votes must be"),
    ],
)
def test_what_is_no_judgment_is_refused(changes, words):
    good = {"term_PK": np.ones((3, 2)), "pair_a_N": np.array([0, 1]), "pair_b_N": np.array([1, 2]),
            "votes_a_N": np.ones(2), "votes_b_N": np.ones(2)}  # fmt: skip
    with pytest.raises(ValueError, match=words):
        fit_triplets(Preferences(**{**good, **changes}), strength=0)


def test_equal_scores_negative_strengths_and_too_many_folds_are_refused():
    flat = Opinions(np.ones((3, 2)), np.arange(3), np.ones(3))
    with pytest.raises(ValueError, match="scores must not all be equal"):
        fit_ratings(flat, strength=0)
    with pytest.raises(ValueError, match="strength must be at least 0, got -1"):
        fit_ratings(flat, strength=-1)
    data, group_N = noisy(np.random.default_rng(12))
    with pytest.raises(ValueError, match=r"k must be in 2\.\.30, the number of references, got 31"):
        choose_strength(data, group_N, (1.0, 2.0), k=31)
    with pytest.raises(ValueError, match="strengths must hold at least one"):
        choose_strength(data, group_N, (), k=5)
