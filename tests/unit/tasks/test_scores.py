"""Scores: known values, agreement with references, ties, and every refusal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import multiclass_accuracy

from pretext.tasks.scores import (
    ensemble,
    fold_scores,
    heldout_ensemble,
    log_of,
    rank_of_truth,
    softmax,
    summary,
    topk_scores,
)


@pytest.fixture
def logits() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(317, 10)), rng.integers(0, 10, 317)


def test_topk_agrees_with_torchmetrics(logits) -> None:
    logit_NK, label_N = logits
    scores = topk_scores(rank_of_truth(logit_NK, label_N))
    for k in (1, 2, 4, 5):
        expected = multiclass_accuracy(
            torch.tensor(logit_NK), torch.tensor(label_N), num_classes=10, average="micro", top_k=k
        )
        assert scores[f"top{k}"] == pytest.approx(expected.item(), abs=1e-6)


def test_rank_agrees_with_sorting(logits) -> None:
    logit_NK, label_N = logits
    expected = [
        sorted(range(10), key=lambda c: -row[c]).index(label) for row, label in zip(logit_NK, label_N, strict=True)
    ]
    assert rank_of_truth(logit_NK, label_N).tolist() == expected


def test_ties_count_against_the_truth() -> None:
    assert rank_of_truth([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [2.0, 1.0, 1.0]], [0, 1, 0]).tolist() == [1, 2, 0]


def test_constant_logits_gain_nothing() -> None:
    scores = fold_scores(np.zeros((30, 10)), np.arange(30) % 10)
    assert (scores["top1"], scores["top5"]) == (0.0, 0.0)
    assert scores["loss"] == pytest.approx(np.log(10))


def test_k_beyond_the_classes_is_certain() -> None:
    scores = fold_scores(np.random.default_rng(0).normal(size=(50, 3)), np.arange(50) % 3)
    assert (scores["top4"], scores["top5"]) == (1.0, 1.0)
    assert scores["top1"] < 1.0


def test_loss_agrees_with_scikit_learn(logits) -> None:
    logit_NK, label_N = logits
    scores = fold_scores(logit_NK, label_N)
    assert scores["loss"] == pytest.approx(log_loss(label_N, softmax(logit_NK), labels=range(10)), rel=1e-9)
    assert scores["n"] == 317


def test_a_probability_of_zero_costs_36_nats_not_infinity() -> None:
    prob_NK = np.array([[1.0, 0.0], [0.0, 1.0]])
    scores = fold_scores(log_of(prob_NK), [0, 0])
    assert scores["loss"] == pytest.approx(-np.log(np.finfo(float).eps) / 2, rel=1e-6)
    assert scores["loss"] == pytest.approx(log_loss([0, 0], prob_NK, labels=[0, 1]), rel=1e-6)
    assert fold_scores([[-1e4, 0.0]], [0])["loss"] == pytest.approx(36.04, abs=0.01)


def test_perfect_and_shuffled() -> None:
    rng = np.random.default_rng(0)
    label_N = np.arange(2000) % 10
    perfect_NK = 50.0 * np.eye(10)[label_N]
    assert fold_scores(perfect_NK, label_N)["top1"] == 1.0
    shuffled = fold_scores(perfect_NK + rng.random((2000, 10)), rng.permutation(label_N))
    for k in (1, 2, 4, 5):
        assert shuffled[f"top{k}"] == pytest.approx(k / 10, abs=0.05)


def test_scores_are_pooled_over_images_not_over_batches(logits) -> None:
    logit_NK, label_N = logits
    parts = [fold_scores(logit_NK[part], label_N[part]) for part in (slice(0, 300), slice(300, 317))]
    whole = fold_scores(logit_NK, label_N)
    assert whole["top1"] == pytest.approx(sum(part["top1"] * part["n"] for part in parts) / 317)
    assert whole["top1"] != pytest.approx((parts[0]["top1"] + parts[1]["top1"]) / 2, abs=1e-4)


def test_softmax_survives_large_logits() -> None:
    np.testing.assert_allclose(softmax([[1e4, 1e4 - np.log(3), -1e4]]), [[0.75, 0.25, 0.0]], rtol=1e-9)


def test_ensemble_is_the_mean_probability(logits) -> None:
    prob_NK = softmax(logits[0])
    np.testing.assert_allclose(ensemble([prob_NK, prob_NK]), prob_NK, rtol=1e-12)
    uniform_NK = np.full_like(prob_NK, 0.1)
    np.testing.assert_allclose(ensemble([prob_NK, uniform_NK]), (prob_NK + 0.1) / 2, rtol=1e-12)


def test_heldout_ensemble_uses_only_models_that_did_not_see_the_image() -> None:
    prob_FNK = np.random.default_rng(0).dirichlet(np.ones(3), size=(3, 4))
    heldout_FN = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0]], dtype=bool)
    expected = np.stack([prob_FNK[0, 0], prob_FNK[1, 1], prob_FNK[2, 2], (prob_FNK[0, 3] + prob_FNK[1, 3]) / 2])
    np.testing.assert_allclose(heldout_ensemble(prob_FNK, heldout_FN), expected, rtol=1e-12)


def test_summary_has_mean_and_sd_over_folds() -> None:
    folds = [{"top1": 0.4, "loss": 2.0, "n": 10}, {"top1": 0.6, "loss": 1.0, "n": 30}]
    result = summary(folds)
    assert result["mean"] == {"top1": pytest.approx(0.5), "loss": pytest.approx(1.5)}
    assert result["sd"] == {"top1": pytest.approx(np.sqrt(0.02)), "loss": pytest.approx(np.sqrt(0.5))}


def test_one_fold_has_no_sd() -> None:
    assert summary([{"top1": 0.4, "n": 3}]) == {"mean": {"top1": 0.4}, "sd": None}


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"label must be in 0..2, got 3"):
        rank_of_truth(np.zeros((2, 3)), [0, 3])
    with pytest.raises(ValueError, match="label must hold integers, got float64"):
        rank_of_truth(np.zeros((2, 3)), [0.0, 1.0])
    with pytest.raises(ValueError, match="logit must be finite, got nan"):
        fold_scores([[0.0, np.nan]], [0])
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(3,\)"):
        fold_scores(np.zeros((2, 3)), [0, 1, 2])
    with pytest.raises(ValueError, match=r"N >= 1, got \(0, 3\)"):
        fold_scores(np.zeros((0, 3)), np.zeros(0, dtype=int))
    with pytest.raises(ValueError, match=r"rank must be a non-empty vector, got shape \(0,\)"):
        topk_scores([])
    with pytest.raises(ValueError, match=r"\(F, N, K\) with F >= 1, got shape \(2, 3\)"):
        ensemble(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"got \(2, 4, 3\) and \(2, 3\)"):
        heldout_ensemble(np.zeros((2, 4, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="image 1 was seen by every model"):
        heldout_ensemble(np.zeros((2, 2, 3)), [[True, False], [False, False]])
    with pytest.raises(ValueError, match="at least 1 fold, got 0"):
        summary([])
    with pytest.raises(ValueError, match=r"scores \['top1'\], got \['loss'\]"):
        summary([{"top1": 1.0}, {"loss": 1.0}])
