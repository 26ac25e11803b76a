"""Comparisons against slow recomputation from the prediction files."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from pretext.artifacts.results import read_predictions
from pretext.reports.compare import aligned_correct, compare, shared_seeds
from pretext.statistics.bootstrap import bootstrap_interval, paired_bootstrap_interval


def _right(layout, stem):
    predictions = read_predictions(layout.predictions(stem))
    answers = zip(predictions.ids, predictions.prob_NK, predictions.label_N, strict=True)
    return {name: int(prob_K.argmax() == label) for name, prob_K, label in answers}


def _entry(evaluation, label):
    return next(entry for entry in evaluation.entries if entry.method.label == label)


@pytest.fixture(scope="module")
def pair(shared_workshop):
    """Two methods, three and two seeds: layouts by (method, seed), and the one evaluation."""
    add = shared_workshop.add
    layouts = {("cnn-mse", s): add(f"m{s}", ("probe-linear", 0.8), seed=s) for s in (0, 1, 2)}
    layouts |= {("cnn-pse4", s): add(f"p{s}", ("probe-linear", 1.8), seed=s, loss="pse", sigma=4.0) for s in (1, 2)}
    (evaluation,) = shared_workshop.compare().evaluations
    return layouts, evaluation


def test_entry_keeps_seeds_images_and_folds_apart(pair):
    layouts, evaluation = pair
    entry = _entry(evaluation, "cnn-mse")
    right = [_right(layouts["cnn-mse", s], "probe-linear") for s in (0, 1, 2)]
    score_S = [sum(own.values()) / len(own) for own in right]
    assert list(entry.results) == [0, 1, 2]
    assert entry.top1 == pytest.approx(sum(score_S) / 3, abs=1e-9)
    assert entry.seed_sd == pytest.approx(np.std(score_S, ddof=1), abs=1e-9)
    assert entry.image_interval == bootstrap_interval([sum(own[name] for own in right) / 3 for name in right[0]])
    folds = [result.content["folds"] for result in entry.results.values()]
    assert entry.fold_mean == pytest.approx(np.mean([[fold["top1"] for fold in own] for own in folds]), abs=1e-9)
    sds = [np.std([fold["top1"] for fold in own], ddof=1) for own in folds]
    assert entry.fold_sd == pytest.approx(np.mean(sds), abs=1e-9)


def test_one_seed_has_no_spread(workshop):
    workshop.add("a", ("probe-linear", 1.0))
    (entry,) = workshop.compare().evaluations[0].entries
    assert entry.seed_sd is None


def test_best_comes_first(pair):
    assert [entry.method.label for entry in pair[1].entries] == ["cnn-pse4", "cnn-mse"]


def test_pairs_are_mcnemar_on_the_same_images_seed_by_seed(pair):
    layouts, evaluation = pair
    assert [test.seeds for test in evaluation.pairs] == [(1, 1), (2, 2)]
    p_values = []
    for test in evaluation.pairs:
        a = _right(layouts["cnn-pse4", test.seeds[0]], "probe-linear")
        b = _right(layouts["cnn-mse", test.seeds[1]], "probe-linear")
        only_a = sum(a[name] and not b[name] for name in a)
        only_b = sum(b[name] and not a[name] for name in a)
        assert (test.only_a, test.only_b) == (only_a, only_b)
        assert test.difference == pytest.approx((only_a - only_b) / len(a), abs=1e-9)
        p_values.append(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)
        assert test.p_value == pytest.approx(p_values[-1], abs=1e-9)
    smaller, larger = sorted(p_values)
    corrected = {smaller: min(1, 2 * smaller), larger: min(1, max(2 * smaller, larger))}
    assert [test.p_holm for test in evaluation.pairs] == pytest.approx([corrected[p] for p in p_values], abs=1e-9)


def test_differences_over_seeds_use_the_seeds_that_both_have(pair):
    layouts, evaluation = pair
    (found,) = evaluation.seed_differences
    a = [_right(layouts["cnn-pse4", s], "probe-linear") for s in (1, 2)]
    b = [_right(layouts["cnn-mse", s], "probe-linear") for s in (1, 2)]
    d_S = [np.mean(list(x.values())) - np.mean(list(y.values())) for x, y in zip(a, b, strict=True)]
    half = stats.t.ppf(0.975, 1) * np.std(d_S, ddof=1) / 2**0.5
    assert found.num_seeds == 2
    assert found.mean == pytest.approx(np.mean(d_S), abs=1e-9)
    assert found.interval == pytest.approx((found.mean - half, found.mean + half), abs=1e-9)
    names = list(a[0])
    assert found.image_interval == paired_bootstrap_interval(
        [sum(own[n] for own in a) / 2 for n in names], [sum(own[n] for own in b) / 2 for n in names])  # fmt: skip


def test_asked_the_other_way_round_signs_turn(pair):
    _, evaluation = pair
    a, b = (entry.method for entry in evaluation.entries)
    for forward, backward in zip(evaluation.tests_of(a, b), evaluation.tests_of(b, a), strict=True):
        assert backward.difference == -forward.difference
        assert backward.interval == (-forward.interval[1], -forward.interval[0])
        assert (backward.only_a, backward.only_b, backward.a) == (forward.only_b, forward.only_a, b)
    forward, backward = evaluation.seed_difference(a, b), evaluation.seed_difference(b, a)
    assert backward.mean == -forward.mean
    assert backward.interval == (-forward.interval[1], -forward.interval[0])
    assert evaluation.seed_difference(a, a) is None


def test_established_needs_seeds_and_images(pair):
    found = pair[1].seed_differences[0]
    for interval, images, expected in (((0.1, 0.2), (0.1, 0.2), True), ((-0.1, 0.2), (0.1, 0.2), False),
                                       ((0.1, 0.1), (-0.1, 0.2), False)):  # fmt: skip
        assert dataclasses.replace(found, interval=interval, image_interval=images).is_established is expected


def test_order_of_the_predictions_does_not_matter(pair):
    _, evaluation = pair
    result = next(iter(evaluation.entries[0].results.values()))
    order = np.random.default_rng(0).permutation(len(result.ids))
    turned = dataclasses.replace(result, ids=[result.ids[n] for n in order], rank_N=result.rank_N[order])
    assert (aligned_correct(turned, result.ids) == result.correct_N).all()
    assert (aligned_correct(turned, turned.ids) == result.correct_N[order]).all()


@pytest.mark.parametrize(("a", "b", "pairs"), [
    ((0, 1, 2), (1, 2, 3), [(1, 1), (2, 2)]), ((0, 1), (None,), [(0, None), (1, None)]),
    ((None,), (0, 1), [(None, 0), (None, 1)]), ((0, 1), (5, 6), [(0, 5)]), ((None,), (None,), [(None, None)]),
])  # fmt: skip
def test_which_seeds_meet(pair, a, b, pairs):
    entry = pair[1].entries[0]
    one, other = (dataclasses.replace(entry, results=dict.fromkeys(seeds)) for seeds in (a, b))
    assert shared_seeds(one, other) == pairs


def test_same_method_and_seed_twice_is_told_and_not_averaged(workshop):
    workshop.add("a", ("probe-linear", 1.0))
    workshop.add("b", ("probe-linear", 1.5))
    study = workshop.compare()
    (entry,) = study.evaluations[0].entries
    assert entry.results[0].run == "a"
    assert [(issue.run, issue.reason) for issue in study.issues] == [("b", "a is the same method with the same seed 0")]


def test_scratch_control_of_two_runs_is_one_seed(workshop, fab):
    """A network trained from new weights has the seed of that training, whatever the run beside it had."""
    for seed in (0, 1):
        layout = workshop.add(f"a{seed}", ("fine-tune-full", 2.0), seed=seed)
        fab.make_result(layout, "fine-tune-scratch", workshop.data, quality=1.0, seed=0)
    (evaluation,) = workshop.compare().evaluations
    assert {entry.method.label: list(entry.results) for entry in evaluation.entries} == {
        "cnn-mse": [0, 1], "cnn-scratch": [0]}  # fmt: skip
    assert workshop.compare().issues == []


def test_data_never_mix(workshop):
    other = workshop.fab.make_data(workshop.root / "data" / "other", num_test=60, seed=1)
    workshop.add("a", ("probe-linear", 1.0))
    workshop.add("b", ("probe-linear", 1.0), data=other, loss="l1")
    study = workshop.compare()
    assert [evaluation.label for evaluation in study.evaluations] == ["Linear probe on other", "Linear probe on shapes"]
    assert all(len(evaluation.entries) == 1 and not evaluation.pairs for evaluation in study.evaluations)


def test_layers_have_evaluations_of_their_own(workshop):
    workshop.add_color("a", ("conv1", 0.5), ("latent", 1.0))
    workshop.add_color("b", ("conv1", 0.8), ("latent", 0.6), space="rgb")
    workshop.add_pixels(0.3)
    study = workshop.compare()
    assert [(e.label, e.family, e.layer, e.pool, e.is_primary) for e in study.evaluations] == [
        ("Linear probe", "Linear probe", "latent", "", True),
        ("Linear probe, conv1", "Linear probe", "conv1", "resize", False),
    ]  # fmt: skip
    assert study.primary == study.evaluations[:1]
    assert study.layers_of("Linear probe") == study.evaluations[::-1]
    assert [len(evaluation.entries) for evaluation in study.evaluations] == [3, 2]
    assert [len(evaluation.pairs) for evaluation in study.evaluations] == [3, 1]
    assert study.evaluations[1].options["pool"] == "resize"
    assert study.issues == []


def test_only_layer_that_was_probed_is_named_and_primary(workshop):
    workshop.add_color("a", ("conv1", 0.5), pool="avg")
    workshop.add_color("b", ("conv1", 0.5), space="rgb")
    assert [(e.label, e.is_primary) for e in workshop.compare().evaluations] == [
        ("Linear probe, conv1, resize", True), ("Linear probe, conv1, avg", False)]  # fmt: skip


def test_missing_score_has_no_mean(pair):
    entry = pair[1].entries[0]
    assert entry.mean_of("ensemble", "top3") is None
    assert entry.mean_of("ensemble", "top1") == pytest.approx(entry.top1, abs=1e-9)


def test_nothing_gives_an_empty_study():
    study = compare([])
    assert (study.runs, study.methods, study.evaluations, study.issues) == ([], [], [], [])
