"""From the logits of fold models to the sections of a result and the predictions per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pretext.artifacts.results import Predictions
from pretext.statistics.bootstrap import bootstrap_interval
from pretext.tasks.plans import FewLabelPlan
from pretext.tasks.scores import ensemble, fold_scores, heldout_ensemble, log_of, rank_of_truth, softmax, summary


@dataclass(frozen=True, slots=True)
class Judged:
    """One fold model's answer.

    Args:
        logit_NK: Scores for every image that is judged; of held-out folds only the rows of `index` count.
        index: The images that this model may judge; None for all.
        chosen: What was chosen for it, such as a strength or an epoch.
    """

    logit_NK: np.ndarray
    index: np.ndarray | None = None
    chosen: dict[str, Any] = field(default_factory=dict)


def score_folds(
    judged: Sequence[Judged], label_N: np.ndarray, ids: Sequence[str]
) -> tuple[dict[str, Any], Predictions]:
    """Score every fold, their ensemble, and its bootstrap interval.

    Args:
        judged: The fold models' answers.
        label_N: True classes of the judged images.
        ids: Their ids.

    Returns:
        The sections folds, mean, sd, ensemble, ci95; and the predictions per image.
    """
    folds, rank_NF = [], np.full((len(label_N), len(judged)), -1, np.int64)
    for number, fold in enumerate(judged):
        rows = np.arange(len(label_N)) if fold.index is None else fold.index
        rank_NF[rows, number] = rank_of_truth(fold.logit_NK[rows], label_N[rows])
        folds.append({"fold": number, **fold_scores(fold.logit_NK[rows], label_N[rows]), "chosen": fold.chosen})
    prob_FNK = np.stack([softmax(fold.logit_NK) for fold in judged])
    heldout_FN = (rank_NF >= 0).T
    prob_NK = ensemble(prob_FNK) if heldout_FN.all() else heldout_ensemble(prob_FNK, heldout_FN)
    correct_N = rank_of_truth(prob_NK, label_N) == 0
    numbers = [{name: value for name, value in fold.items() if name not in ("fold", "chosen")} for fold in folds]
    sections = {"folds": folds, **summary(numbers), "ensemble": fold_scores(log_of(prob_NK), label_N),
                "ci95": {"ensemble_top1": list(bootstrap_interval(correct_N.astype(np.float64)))}}  # fmt: skip
    return sections, Predictions(list(ids), label_N, prob_NK.astype(np.float32), rank_NF)


def few_label_rows(
    plans: Sequence[FewLabelPlan], judged: Sequence[Judged], label_N: np.ndarray
) -> list[dict[str, Any]]:
    """One row for every small labelled set: its size, draw, scores and what was chosen."""
    rows = []
    for few, answer in zip(plans, judged, strict=True):
        images = np.arange(len(label_N)) if answer.index is None else answer.index
        rows.append({"labels_per_class": few.labels_per_class, "draw": few.draw, "num_labels": len(few.plan.fit),
                     **fold_scores(answer.logit_NK[images], label_N[images]), "chosen": answer.chosen})  # fmt: skip
    return rows


def headline(content: Mapping[str, Any]) -> dict[str, Any]:
    """The scores that a result's manifest repeats, so that a terminal can show them without opening the result."""
    return {"top1": content["ensemble"]["top1"], "ci95": content["ci95"]["ensemble_top1"],
            "fold_mean": content["mean"]["top1"]}  # fmt: skip


def tell_headline(output: Path, manifest: Mapping[str, Any], status: str) -> dict[str, Any]:
    """A scoring stage's outcome for the terminal."""
    scores = manifest["summary"]
    low, high = scores["ci95"]
    return {"output": str(output), "status": status,
            "top-1": f"{100 * scores['top1']:.2f} % (95 % interval {100 * low:.2f} to {100 * high:.2f})",
            "mean of folds": f"{100 * scores['fold_mean']:.2f} %", "seconds": manifest["wall_seconds"]}  # fmt: skip
