"""Which labelled images each fold's model is fitted on, chosen by, and judged on. No image is ever in two of the three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretext.errors import DataError
from pretext.stage_configs import LabelOptions
from pretext.tasks.folds import Index, few_label_draw, inner_train_sets, kfold_train_sets, official_train_sets


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """One model's images, as indices into the train split.

    Args:
        fit: Images whose labels move the weights.
        select: Images whose labels choose hyper-parameters or the epoch to stop at; may be empty.
        judge: Held-out images it is scored on; None for the test split.
    """

    fit: Index
    select: Index
    judge: Index | None

    @property
    def train(self) -> Index:
        """Every image whose label the model may use."""
        return np.sort(np.concatenate([self.fit, self.select]))


def plan_folds(label_N: np.ndarray, folds_per_image: Sequence[Sequence[int]], *, folds: str, k: int, seed: int,
               has_test: bool) -> tuple[list[FoldPlan], str]:  # fmt: skip
    """Plan every fold, and say in words where choices are made.

    With a test split, k-fold models choose on the part they leave out and are judged on the test split. Without one
    they are judged on that part, and choose on a part of their own training images.

    Raises:
        DataError: If the folds asked for can't be had.
    """
    try:
        sets = (
            kfold_train_sets(len(label_N), k=k, seed=seed) if folds == "kfold" else official_train_sets(folds_per_image)
        )
    except ValueError as error:
        hint = "--folds kfold" if folds == "official" else "a smaller --k"
        raise DataError(f"{folds} folds can't be made of {len(label_N)} labelled images: {error}", hint=hint) from error
    if folds == "kfold" and has_test:
        return [FoldPlan(fit, heldout, None) for fit, heldout in sets], "each fold's left-out part of the train split"
    plans = []
    for train, heldout in sets:
        inner = inner_train_sets(label_N, train, k=5, seed=seed)
        fit, select = inner[0] if inner else (train, np.empty(0, np.int64))
        plans.append(FoldPlan(fit, select, None if has_test else heldout))
    if folds == "official" and not has_test:
        raise DataError("official folds are judged on the test split, which this data set lacks", hint="--folds kfold")
    return plans, "a part of each fold's own training images"


@dataclass(frozen=True, slots=True)
class FewLabelPlan:
    """One small labelled set of a few-label curve."""

    labels_per_class: int
    draw: int
    plan: FoldPlan


def few_label_plans(label_N: np.ndarray, labels_per_class: Sequence[int], *, draws: int, seed: int, stratified: bool,
                    has_test: bool) -> list[FewLabelPlan]:  # fmt: skip
    """Every draw of every size; judged on the test split, or without one on all images outside the set.

    Raises:
        DataError: If a class has too few images.
    """
    plans = []
    for size in labels_per_class:
        for draw in range(draws):
            try:
                fit = few_label_draw(label_N, size, draw=draw, seed=seed, stratified=stratified)
            except ValueError as error:
                raise DataError(f"--labels-per-class {size}: {error}") from error
            rest = None if has_test else np.setdiff1d(np.arange(len(label_N)), fit)
            plans.append(FewLabelPlan(size, draw, FoldPlan(fit, np.empty(0, np.int64), rest)))
    return plans


def few_label_ids(plans: Sequence[FewLabelPlan], ids: Sequence[str]) -> list[tuple[int, int, str]]:
    """Rows (labels per class, draw, image id) that say which images each small set holds."""
    return [(few.labels_per_class, few.draw, ids[i]) for few in plans for i in few.plan.fit]


def label_facts(options: LabelOptions, *, has_test: bool) -> dict[str, Any]:
    """What a result's section `protocol` says of the images that its models are fitted and judged on."""
    facts: dict[str, Any] = {"name": options.folds, "test": "test split" if has_test else "held-out folds"}
    facts |= {"k": options.k, "fold_seed": options.fold_seed} if options.folds == "kfold" else {}
    return facts | ({"stratified": not options.unstratified} if options.labels_per_class else {})
