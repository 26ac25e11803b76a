"""The classifiers of the probe stage, all called alike: labelled features in, one answer a plan out.

Each takes (feature_ND, label_N, test_MD, plans): float32 features and classes of the train split, features of the test
split or None, and which images every model may use; its own options are keywords. Choices are made inside the plan.
What takes long keeps its state in `folder`, and goes on from there when it is called again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretext.tasks.evaluation import Judged
from pretext.tasks.folds import inner_train_sets
from pretext.tasks.head_state import fit_heads_in
from pretext.tasks.knn import choose_k, knn_votes, leave_one_out_votes
from pretext.tasks.logistic import probe_folds
from pretext.tasks.plans import FoldPlan
from pretext.tasks.scores import log_of, rank_of_truth

PREDICTORS: tuple[tuple[int, ...], ...] = ((), (32,), (64,), (32, 32), (64, 32), (64, 64), (128, 128))
PREDICTOR_BATCH = 256


def judge_linear(feature_ND: np.ndarray, label_N: np.ndarray, test_MD: np.ndarray | None, plans: Sequence[FoldPlan], *,
                 num_classes: int, seed: int, device: torch.device, folder: Path, strengths: Sequence[float]) -> list[Judged]:  # fmt: skip
    """Multinomial logistic regression; one strength for all k folds, or one for each model from its own images."""
    feature, label = torch.from_numpy(feature_ND).to(device), torch.from_numpy(label_N)
    shown = feature if test_MD is None else torch.from_numpy(test_MD).to(device)
    # Parts left out of k folds may choose; where they are judged on, or nothing is left out, each set is split further.
    together = all(len(plan.select) and plan.judge is None for plan in plans) and len(plans) > 1
    sets = [(plan.fit, plan.select) if together else (plan.train, np.empty(0, np.int64)) for plan in plans]
    fits = probe_folds(feature, label, sets, strengths=strengths, num_classes=num_classes,
                       select="heldout" if together else "inner", seed=seed)  # fmt: skip
    return [Judged(fit.logits(shown).cpu().numpy(), plan.judge,
                   {"strength": fit.strength, "by": fit.chosen_by, "converged": fit.converged, "table": fit.selection_table})
            for fit, plan in zip(fits, plans, strict=True)]  # fmt: skip


def judge_knn(feature_ND: np.ndarray, label_N: np.ndarray, test_MD: np.ndarray | None, plans: Sequence[FoldPlan], *,
              num_classes: int, seed: int, device: torch.device, folder: Path, neighbours: Sequence[int]) -> list[Judged]:  # fmt: skip
    """Weighted nearest neighbours; k chosen on the part left out of k folds, else by leaving out one image at a time."""
    feature, label = torch.from_numpy(feature_ND).to(device), torch.from_numpy(label_N).to(device)
    shown = feature if test_MD is None else torch.from_numpy(test_MD).to(device)
    judged = []
    for plan in plans:
        chooses_outside = len(plan.select) > 0 and plan.judge is None
        train = torch.from_numpy(plan.fit if chooses_outside else plan.train).to(device)
        known: tuple[Tensor, Tensor] = (feature[train], label[train])
        k, by = min(neighbours), "default"
        table: list[dict[str, float | int]] = []
        if chooses_outside:
            heldout = torch.from_numpy(plan.select).to(device)
            votes = knn_votes(*known, feature[heldout], num_classes=num_classes, neighbours=neighbours)
            (k, table), by = choose_k(votes, label[heldout]), "heldout"
        elif len(train) > 1:
            votes = leave_one_out_votes(*known, num_classes=num_classes, neighbours=neighbours)
            (k, table), by = choose_k(votes, known[1]), "leave-one-out"
        votes = knn_votes(*known, shown, num_classes=num_classes, neighbours=[k])
        chosen = {"k": k, "used_k": votes.used_k[k], "by": by, "table": table}
        judged.append(Judged(log_of(votes.prob_MK[k].cpu().numpy()), plan.judge, chosen))
    return judged


def judge_mlp(feature_ND: np.ndarray, label_N: np.ndarray, test_MD: np.ndarray | None, plans: Sequence[FoldPlan], *,
              num_classes: int, seed: int, device: torch.device, folder: Path, epochs: int, lr: float, patience: int) -> list[Judged]:  # fmt: skip
    """The slides' classifier on standardised features, stopped early on the plan's own choosing images."""
    heads = fit_heads_in(folder, feature_ND, label_N, [(plan.fit, plan.select) for plan in plans], standardize=True, kind="slides",
                      num_classes=num_classes, epochs=epochs, lr=lr, patience=patience, seed=seed, device=device)  # fmt: skip
    shown = feature_ND if test_MD is None else test_MD
    return [Judged(head.logits(shown), plan.judge, {"epoch": head.best_epoch})
            for head, plan in zip(heads, plans, strict=True)]  # fmt: skip


@dataclass(frozen=True, slots=True)
class JudgedBySeveral(Judged):
    """One fold's answer from the chosen one of several predictors, with the answers of all of them.

    Args:
        logit_PNK: Every predictor's scores, in the order of `PREDICTORS`.
        heldout_top1_P: Each one's accuracy on the choosing images; None where there are none.
    """

    logit_PNK: list[np.ndarray] = field(default_factory=list)
    heldout_top1_P: list[float] | None = None


def judge_mlp_seven(feature_ND: np.ndarray, label_N: np.ndarray, test_MD: np.ndarray | None, plans: Sequence[FoldPlan], *,
                    num_classes: int, seed: int, device: torch.device, folder: Path, epochs: int, lr: float, patience: int) -> list[Judged]:  # fmt: skip
    """Seven perceptrons of growing size with LeakyReLU, fitted to one-hot labels by squared error; one answers.

    Each is stopped early on the plan's choosing images, and the one that has most of them right is chosen, at a tie the
    one of smaller loss there. Where a plan has none, a part of its own images is set apart; where there are too few
    for that, the linear one answers. The outputs are taken as logits: their order is the regression's, while their softmax
    is flat, so the cross-entropy says little.

    Reference: Pihlgren et al., arXiv:2302.04032, perceptual autoencoders; features are standardised besides.
    """
    sets = [(plan.fit, plan.select) if len(plan.select) else _inner_set(label_N, plan.fit, seed) for plan in plans]
    heads_P = [fit_heads_in(folder / f"predictor-{number}", feature_ND, label_N, sets, standardize=True, kind=hidden,
                            num_classes=num_classes, loss="one-hot", epochs=epochs, lr=lr, batch_size=PREDICTOR_BATCH,
                            patience=patience, grad_clip=0.0, schedule="constant", seed=seed, device=device)
               for number, hidden in enumerate(PREDICTORS)]  # fmt: skip
    shown = feature_ND if test_MD is None else test_MD
    judged: list[Judged] = []
    for fold, ((_, select), plan) in enumerate(zip(sets, plans, strict=True)):
        heads = [heads[fold] for heads in heads_P]
        number, top1_P, by = 0, None, "default"
        if len(select):
            by = "heldout" if len(plan.select) else "inner"
            top1_P = [_top1(head.logits(feature_ND[select]), label_N[select]) for head in heads]
            number = max(range(len(heads)), key=lambda p: (top1_P[p], -min(heads[p].heldout_loss)))
        logit_PNK = [head.logits(shown) for head in heads]
        chosen = {"hidden": "-".join(map(str, PREDICTORS[number])) or "none", "epoch": heads[number].best_epoch,
                  "by": by}  # fmt: skip
        judged.append(JudgedBySeveral(logit_PNK[number], plan.judge, chosen, logit_PNK, top1_P))
    return judged


def _inner_set(label_N: np.ndarray, train: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    inner = inner_train_sets(label_N, train, k=5, seed=seed)
    return inner[0] if inner else (train, np.empty(0, np.int64))


def _top1(logit_NK: np.ndarray, label_N: np.ndarray) -> float:
    return float((rank_of_truth(logit_NK, label_N) == 0).mean())


def predictor_rows(judged: Sequence[Judged], label_N: np.ndarray) -> list[dict[str, Any]]:
    """How each of several predictors does, as means over folds; empty for a classifier that is but one.

    Args:
        judged: The folds' answers.
        label_N: True classes of the judged images.

    Returns:
        Rows {hidden, top1 on the judged images, heldout_top1 on the choosing images or None}.
    """
    several = [fold for fold in judged if isinstance(fold, JudgedBySeveral)]
    rows = []
    for number, hidden in enumerate(PREDICTORS if several else ()):
        top1_F, heldout_F = [], []
        for fold in several:
            images = np.arange(len(label_N)) if fold.index is None else fold.index
            top1_F.append(_top1(fold.logit_PNK[number][images], label_N[images]))
            heldout_F += [] if fold.heldout_top1_P is None else [fold.heldout_top1_P[number]]
        rows.append({"hidden": list(hidden), "top1": float(np.mean(top1_F)),
                     "heldout_top1": float(np.mean(heldout_F)) if heldout_F else None})  # fmt: skip
    return rows
