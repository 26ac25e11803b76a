"""Scores from logits: top-k accuracy, log-loss, ensembles of folds. Always pooled over images, never over batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOP_KS = (1, 2, 4, 5)
# scikit-learn's floor of a probability in a log-loss: one image can cost 36 nats, never infinity
PROBABILITY_FLOOR = float(np.finfo(np.float64).eps)


def rank_of_truth(logit_NK: ArrayLike, label_N: ArrayLike) -> NDArray[np.int64]:
    """How many classes score at least as high as the true one.

    Ties count against the truth, so a classifier that can't tell classes apart gains nothing by it: constant
    logits score 0 at top-1, where breaking ties by index would reward whichever class comes first.

    Args:
        logit_NK: Scores of any scale (logits, probabilities, votes). Finite.
        label_N: True classes, 0..K-1.

    Returns:
        rank_N: 0 (top) .. K-1.

    Raises:
        ValueError: If the shapes don't fit, a score is not finite, or a label is outside 0..K-1.
    """
    logit_NK, label_N = _scores_and_labels(logit_NK, label_N)
    truth_N1 = np.take_along_axis(logit_NK, label_N[:, None], axis=1)
    return (logit_NK >= truth_N1).sum(axis=1) - 1


def topk_scores(rank_N: ArrayLike, *, ks: Sequence[int] = TOP_KS) -> dict[str, float]:
    """Share of images whose truth is among the k best, for each k.

    Args:
        rank_N: Ranks as `rank_of_truth` gives them.
        ks: The k to report. With k >= K every rank is inside, and the score is 1.

    Returns:
        {"top1": ..., ...}, fractions 0..1.

    Raises:
        ValueError: If `rank_N` is not a non-empty vector.
    """
    rank_N = np.asarray(rank_N)
    if rank_N.ndim != 1 or len(rank_N) == 0:
        raise ValueError(f"rank must be a non-empty vector, got shape {rank_N.shape}")
    return {f"top{k}": float((rank_N < k).mean()) for k in ks}


def fold_scores(logit_NK: ArrayLike, label_N: ArrayLike) -> dict[str, float | int]:
    """The scores of one model on one set of images.

    Args:
        logit_NK: Logits, or the log-probabilities of `log_of`. Finite.
        label_N: True classes, 0..K-1.

    Returns:
        top1, top2, top4, top5 (fractions 0..1), loss (mean cross-entropy in nats, a probability counted as no less
        than 2.2e-16, as scikit-learn's log_loss does), n (images).

    Raises:
        ValueError: As `rank_of_truth`, or if there are no images.
    """
    logit_NK, label_N = _scores_and_labels(logit_NK, label_N)
    scores: dict[str, float | int] = dict(topk_scores(rank_of_truth(logit_NK, label_N)))
    shifted_NK = logit_NK - logit_NK.max(axis=1, keepdims=True)
    truth_N = np.take_along_axis(shifted_NK, label_N[:, None], axis=1)[:, 0]
    loss_N = np.log(np.exp(shifted_NK).sum(axis=1)) - truth_N
    scores["loss"] = float(np.minimum(loss_N, -np.log(PROBABILITY_FLOOR)).mean())
    scores["n"] = len(label_N)
    return scores


def softmax(logit_NK: ArrayLike) -> NDArray[np.float64]:
    """Probabilities over the last axis, in float64; any leading axes."""
    logit_NK = np.asarray(logit_NK, dtype=np.float64)
    exp_NK = np.exp(logit_NK - logit_NK.max(axis=-1, keepdims=True))
    return exp_NK / exp_NK.sum(axis=-1, keepdims=True)


def log_of(prob_NK: ArrayLike) -> NDArray[np.float64]:
    """Log-probabilities that `fold_scores` takes: zero probabilities become the floor, so nothing is infinite."""
    return np.log(np.maximum(np.asarray(prob_NK, dtype=np.float64), PROBABILITY_FLOOR))


def ensemble(prob_FNK: ArrayLike) -> NDArray[np.float64]:
    """Mean of the fold models' probabilities (soft vote).

    Args:
        prob_FNK: Probabilities of F models on the same images.

    Returns:
        prob_NK.

    Raises:
        ValueError: If there is not one axis each for models, images and classes, or no model.
    """
    prob_FNK = np.asarray(prob_FNK, dtype=np.float64)
    if prob_FNK.ndim != 3 or len(prob_FNK) == 0:
        raise ValueError(f"prob must be (F, N, K) with F >= 1, got shape {prob_FNK.shape}")
    return prob_FNK.mean(axis=0)


def heldout_ensemble(prob_FNK: ArrayLike, heldout_FN: ArrayLike) -> NDArray[np.float64]:
    """Out-of-fold predictions: each image by the models that did not train on it, their probabilities averaged.

    Args:
        prob_FNK: Probabilities of F models on the same images.
        heldout_FN: True where model f did not see image n.

    Returns:
        prob_NK.

    Raises:
        ValueError: If the shapes don't fit, or some image was seen by every model.
    """
    prob_FNK, heldout_FN = np.asarray(prob_FNK, dtype=np.float64), np.asarray(heldout_FN, dtype=np.bool_)
    if prob_FNK.ndim != 3 or heldout_FN.shape != prob_FNK.shape[:2]:
        raise ValueError(f"prob must be (F, N, K) and heldout (F, N), got {prob_FNK.shape} and {heldout_FN.shape}")
    count_N = heldout_FN.sum(axis=0)
    if (count_N == 0).any():
        raise ValueError(f"image {int(np.argmin(count_N))} was seen by every model; it has no out-of-fold prediction")
    return np.einsum("fnk,fn->nk", prob_FNK, heldout_FN) / count_N[:, None]


def summary(fold_list: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float] | None]:
    """Mean and standard deviation over folds.

    Args:
        fold_list: What `fold_scores` gave for each fold.

    Returns:
        {"mean": {...}, "sd": {...}} over the fractions and the loss; "sd" has n - 1 below the root and is None for a
        single fold, whose spread can't be known.

    Raises:
        ValueError: If there is no fold, or the folds hold different scores.
    """
    if not fold_list:
        raise ValueError("summary needs at least 1 fold, got 0")
    names = [name for name in fold_list[0] if name != "n"]
    for fold in fold_list:
        if [name for name in fold if name != "n"] != names:
            raise ValueError(f"every fold must hold the scores {names}, got {[name for name in fold if name != 'n']}")
    value_FS = np.array([[fold[name] for name in names] for fold in fold_list], dtype=np.float64)
    mean = dict(zip(names, value_FS.mean(axis=0).tolist(), strict=True))
    if len(fold_list) == 1:
        return {"mean": mean, "sd": None}
    return {"mean": mean, "sd": dict(zip(names, value_FS.std(axis=0, ddof=1).tolist(), strict=True))}


def _scores_and_labels(logit_NK: ArrayLike, label_N: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    logit_NK, label_N = np.asarray(logit_NK, dtype=np.float64), np.asarray(label_N)
    if logit_NK.ndim != 2 or label_N.shape != logit_NK.shape[:1] or len(label_N) == 0:
        raise ValueError(f"logit must be (N, K) and label (N,) with N >= 1, got {logit_NK.shape} and {label_N.shape}")
    if not np.isfinite(logit_NK).all():
        raise ValueError(f"logit must be finite, got {logit_NK[~np.isfinite(logit_NK)][0]}")
    check_labels(label_N, num_classes=logit_NK.shape[1])
    return logit_NK, label_N.astype(np.int64)


def check_labels(label_N: NDArray[np.integer], *, num_classes: int) -> None:
    """Raise a ValueError unless every label is an integer in 0..K-1."""
    if not np.issubdtype(label_N.dtype, np.integer):
        raise ValueError(f"label must hold integers, got {label_N.dtype}")
    outside = (label_N < 0) | (label_N >= num_classes)
    if outside.any():
        raise ValueError(f"label must be in 0..{num_classes - 1}, got {label_N[outside][0]}")
