"""The linear probe's protocols: agreement with scikit-learn's search, what may be looked at, defaults, refusals."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from pretext.tasks import logistic
from pretext.tasks.folds import few_label_draw, inner_train_sets, kfold_train_sets
from pretext.tasks.logistic import DEFAULT_STRENGTH, choose_strength, heldout_losses, probe_folds
from pretext.tasks.scores import fold_scores

STRENGTHS = [1e-4, 1e-2, 1.0, 100.0]


def noisy_classes(num_images: int = 240, num_classes: int = 4, num_features: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    label_N = torch.arange(num_images) % num_classes
    centre_KD = torch.randn(num_classes, num_features, generator=generator)
    return 0.7 * centre_KD[label_N] + torch.randn(num_images, num_features, generator=generator), label_N


def slow_losses(feature_ND: Tensor, label_N: Tensor, train: np.ndarray, heldout: np.ndarray) -> list[float]:
    x, y = feature_ND.double().numpy(), label_N.numpy()
    losses = []
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=1e-8, max_iter=5000))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(x[train], y[train])
        losses.append(log_loss(y[heldout], model.predict_proba(x[heldout]), labels=model.classes_))
    return losses


def test_heldout_selection_is_scikit_learns_search() -> None:
    feature_ND, label_N = noisy_classes()
    sets = kfold_train_sets(240, k=3)
    fits = probe_folds(feature_ND, label_N, sets, strengths=STRENGTHS, num_classes=4, select="heldout")
    expected = np.mean([slow_losses(feature_ND, label_N, *one) for one in sets], axis=0)
    np.testing.assert_allclose([row["loss"] for row in fits[0].selection_table], expected, rtol=2e-3)
    assert {fit.strength for fit in fits} == {STRENGTHS[int(expected.argmin())]}
    assert {fit.chosen_by for fit in fits} == {"heldout"}
    assert all(row["converged"] for row in fits[0].selection_table)
    assert all(fit.converged for fit in fits)


def test_inner_selection_is_scikit_learns_search_inside_the_training_set() -> None:
    feature_ND, label_N = noisy_classes()
    train = np.arange(0, 240, 3)
    (fit,) = probe_folds(
        feature_ND, label_N, [(train, np.arange(0))], strengths=STRENGTHS, num_classes=4, select="inner", seed=5
    )
    inner = inner_train_sets(label_N.numpy(), train, k=5, seed=5)
    expected = np.mean([slow_losses(feature_ND, label_N, *one) for one in inner], axis=0)
    np.testing.assert_allclose([row["loss"] for row in fit.selection_table], expected, rtol=2e-3)
    assert fit.strength == STRENGTHS[int(expected.argmin())]
    assert fit.chosen_by == "inner"


def test_inner_selection_refits_on_the_whole_training_set() -> None:
    feature_ND, label_N = noisy_classes()
    train = np.arange(0, 140)
    one = [(train, np.arange(0))]
    (fit,) = probe_folds(feature_ND, label_N, one, strengths=STRENGTHS, num_classes=4, select="inner")
    x, y = feature_ND.double().numpy(), label_N.numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=fit.strength, tol=1e-8)).fit(x[train], y[train])
    ours = torch.softmax(fit.logits(feature_ND).double(), dim=1).numpy()
    np.testing.assert_allclose(ours, model.predict_proba(x), rtol=0, atol=1e-3)


def test_inner_selection_never_looks_at_held_out_images() -> None:
    feature_ND, label_N = noisy_classes()
    sets = kfold_train_sets(240, k=3)
    plain = probe_folds(feature_ND, label_N, sets, strengths=STRENGTHS, num_classes=4, select="inner")
    for fold, (_, heldout) in enumerate(sets):
        spoiled_ND, spoiled_N = feature_ND.clone(), label_N.clone()
        spoiled_ND[heldout], spoiled_N[heldout] = 1e3, 0
        other = probe_folds(spoiled_ND, spoiled_N, [sets[fold]], strengths=STRENGTHS, num_classes=4, select="inner")[0]
        assert other.strength == plain[fold].strength
        torch.testing.assert_close(other.weight_DK, plain[fold].weight_DK, rtol=1e-3, atol=1e-4)


def test_one_label_per_class_takes_the_default_and_says_so() -> None:
    feature_ND, label_N = noisy_classes()
    few = few_label_draw(label_N.numpy(), 1, draw=0, seed=0)
    more = few_label_draw(label_N.numpy(), 2, draw=0, seed=0)
    fits = probe_folds(
        feature_ND,
        label_N,
        [(few, np.arange(0)), (more, np.arange(0))],
        strengths=STRENGTHS,
        num_classes=4,
        select="inner",
    )
    assert (fits[0].strength, fits[0].chosen_by, fits[0].selection_table) == (DEFAULT_STRENGTH, "default", [])
    assert fits[1].chosen_by == "inner"
    assert [row["strength"] for row in fits[1].selection_table] == STRENGTHS


def test_solving_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    feature_ND, label_N = noisy_classes()
    arguments = {"strengths": STRENGTHS, "num_classes": 4, "select": "inner"}
    whole = probe_folds(feature_ND, label_N, kfold_train_sets(240, k=3), **arguments)
    monkeypatch.setattr(logistic, "SOLVE_WEIGHTS", 1)
    parts = probe_folds(feature_ND, label_N, kfold_train_sets(240, k=3), **arguments)
    for one, other in zip(whole, parts, strict=True):
        assert one.strength == other.strength
        torch.testing.assert_close(one.weight_DK, other.weight_DK, rtol=1e-3, atol=1e-4)


def test_perfect_features_score_one_and_shuffled_labels_score_chance() -> None:
    rng = np.random.default_rng(0)
    label_N = torch.arange(1000) % 10
    perfect_ND = torch.eye(10)[label_N] + 0.01 * torch.tensor(rng.normal(size=(1000, 10)), dtype=torch.float32)
    train, test = np.arange(500), np.arange(500, 1000)
    for select in ("heldout", "inner"):
        (fit,) = probe_folds(perfect_ND, label_N, [(train, test)], strengths=STRENGTHS, num_classes=10, select=select)
        assert fold_scores(fit.logits(perfect_ND[test]).numpy(), label_N[test].numpy())["top1"] == 1.0
    shuffled_N = label_N[torch.tensor(rng.permutation(1000))]
    (fit,) = probe_folds(perfect_ND, shuffled_N, [(train, test)], strengths=STRENGTHS, num_classes=10, select="inner")
    scores = fold_scores(fit.logits(perfect_ND[test]).numpy(), shuffled_N[test].numpy())
    assert scores["top1"] == pytest.approx(0.1, abs=0.05)
    assert scores["loss"] == pytest.approx(np.log(10), abs=0.1)
    assert fit.strength == min(STRENGTHS)  # noise is best fitted least


def test_heldout_losses_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    feature_nD, label_n = torch.tensor(rng.normal(size=(40, 3))), torch.arange(40) % 3
    weight_SDK, bias_SK = torch.tensor(rng.normal(size=(2, 3, 3))), torch.tensor(rng.normal(size=(2, 3)))
    losses = heldout_losses(feature_nD, label_n, weight_SDK, bias_SK)
    for s in range(2):
        prob_nK = torch.softmax(feature_nD @ weight_SDK[s] + bias_SK[s], dim=1).numpy()
        assert losses[s] == pytest.approx(log_loss(label_n.numpy(), prob_nK), rel=1e-9)


def test_ties_choose_the_stronger_penalty_and_infinite_losses_never_win() -> None:
    assert choose_strength(np.array([[1.0, 0.5, 0.5], [1.0, 0.5, 0.5]]), [1.0, 10.0, 0.1]) == 0.1
    assert choose_strength(np.array([[np.inf, 2.0]]), [1.0, 10.0]) == 10.0


def test_refusals() -> None:
    feature_ND, label_N = noisy_classes()
    sets = kfold_train_sets(240, k=3)
    good = {"strengths": STRENGTHS, "num_classes": 4, "select": "inner"}
    with pytest.raises(ValueError, match="select must be 'heldout' or 'inner', got 'test'"):
        probe_folds(feature_ND, label_N, sets, **good | {"select": "test"})
    with pytest.raises(ValueError, match=r"each once, got \[1.0, 1.0\]"):
        probe_folds(feature_ND, label_N, sets, **good | {"strengths": [1, 1.0]})
    with pytest.raises(ValueError, match=r"at least one value, each once, got \[\]"):
        probe_folds(feature_ND, label_N, sets, **good | {"strengths": []})
    with pytest.raises(ValueError, match=r"strength must be positive and finite, got 0\.0"):
        probe_folds(feature_ND, label_N, sets, **good | {"strengths": [0.0]})
    with pytest.raises(ValueError, match=r"fold 1 holds out 0 images.*select='inner'"):
        probe_folds(feature_ND, label_N, [sets[0], (sets[1][0], np.arange(0))], **good | {"select": "heldout"})
    with pytest.raises(ValueError, match=r"fold 0 must index images 0..239, got 240"):
        probe_folds(feature_ND, label_N, [(np.array([0, 240]), np.arange(0))], **good)
    with pytest.raises(ValueError, match=r"label must be in 0..2, got 3"):
        probe_folds(feature_ND, label_N, sets, **good | {"num_classes": 3})
    with pytest.raises(ValueError, match=r"loss must be \(F, 2\) with F >= 1, got \(1, 3\)"):
        choose_strength(np.zeros((1, 3)), [1.0, 2.0])
    with pytest.raises(ValueError, match=r"finite for some strength, got \[nan\]"):
        choose_strength(np.array([[np.nan]]), [1.0])
