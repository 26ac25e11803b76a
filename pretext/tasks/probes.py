"""The classifiers of the probe stage, all called alike: labelled features in, one answer a plan out.

Each takes (feature_ND, label_N, test_MD, plans): float32 features and classes of the train split, features of the test
split or None, and which images every model may use; its own options are keywords. Choices are made inside the plan.
What takes long keeps its state in `folder`, and goes on from there when it is called again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pretext.tasks.evaluation import Judged
from pretext.tasks.head_state import fit_heads_in
from pretext.tasks.knn import choose_k, knn_votes, leave_one_out_votes
from pretext.tasks.logistic import probe_folds
from pretext.tasks.plans import FoldPlan
from pretext.tasks.scores import log_of


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
