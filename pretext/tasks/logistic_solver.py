"""Multinomial logistic regressions on shared features: every fold, strength and label subset solved in one batch.

Letters beside the package's alphabet: P problems, A problems still running, G training sets of a batch, S problems
of one training set, n images of a training set, R directions that it spans.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pretext.tasks.features import check_features, full_precision
from pretext.tasks.lbfgs import HISTORY, Minimum, minimize_together
from pretext.tasks.logistic_batch import LogisticBatch
from pretext.tasks.principal_axes import is_large, span

# A class without a training image has no finite optimum, its bias falls for ever; this stands for it.
ABSENT_BIAS = -1e4
# Features of the training sets solved together and the minimiser's history, each, at most: 2**27 float32 are 512 MiB.
BATCH_ELEMENTS = 2**27


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticSolution:
    """The optimum of each problem, for raw (not standardised) features.

    Attributes:
        weight_PDK: Logits are feature_ND @ weight_DK + bias_K. Dtype of the features.
        bias_PK: Intercepts; -10,000 for a class that the problem's training set lacks, whose weights are 0.
        objective_P: What was minimised, the sum of penalty and C x cross-entropies; float64.
        iterations: Evaluations of the batch that took longest.
        converged_P: Whether the objective is expected to fall by no more than the tolerance.
        gradient_norm_P: Norm of the objective's gradient divided by C n, scikit-learn's scale; float64.
    """

    weight_PDK: Tensor
    bias_PK: Tensor
    objective_P: Tensor
    iterations: int
    converged_P: Tensor
    gradient_norm_P: Tensor


@torch.no_grad()
def solve_logistic(
    feature_ND: Tensor,
    label_N: Tensor,
    *,
    num_classes: int,
    train_mask_PN: Tensor,
    strength_P: Tensor,
    max_iter: int = 1000,
    tolerance: float = 1e-9,
    standardize: bool = True,
) -> LogisticSolution:
    """Fit P multinomial logistic regressions that share their features.

    Each problem minimises 0.5 ||W||^2 + C sum_n CE(softmax(W x_n + b), label_n) over its own training images, b free,
    after standardising with the mean and the (biased) standard deviation of those images; that of a constant feature
    counts as 1. It is scikit-learn's Pipeline(StandardScaler(), LogisticRegression(C=C)); so where a set holds two
    classes only, the penalty is ||W||^2, which is half the square of the one weight vector scikit-learn fits then.

    Problems with the same training images share one copy of them, turned onto that set's principal axes. The turn
    leaves the objective as it is; it drops the directions that the set does not span (all but n - 1 where there are
    more features than images, and collinear and constant ones), and makes the Hessian at zero diagonal, so that a
    diagonal scaling makes the first step Newton's. Of large sets only the leading axes are found, which needs no
    eigendecomposition of that size and hardly an evaluation more; the rest is solved for by its kernel.

    Args:
        feature_ND: Finite float32 or float64 features. Passes over the data are in this dtype, the rest in float64.
        label_N: Classes 0..K-1, int64.
        num_classes: K, at least 2.
        train_mask_PN: True where problem p trains on image n.
        strength_P: scikit-learn's C of each problem: the smaller, the stronger the penalty.
        max_iter: Most evaluations of the objective.
        tolerance: Relative decrease of the objective below which a problem is done. At 1e-9, probabilities are within
            1e-3 of the optimum's for strengths up to 1e3 or so, in float32 too.
        standardize: False fits the features as they are.

    Returns:
        Weights and intercepts that apply to raw features.

    Raises:
        ValueError: If shapes or dtypes don't fit, a feature is not finite, a label is outside 0..K-1, a strength is
            not positive and finite, or a problem trains on fewer than 2 classes.

    Cost: one eigendecomposition of side min(n, D) for each different training set; then per evaluation two products
    of n x min(n, D) by min(n, D) x (its problems x K). For a set of more than 512 images with more than 512 and more than
    n / 2 features, a product of n x D by D x n, and then per evaluation one of n x n by n x (its problems x K). Images
    that a problem leaves out cost nothing.
    """
    device = feature_ND.device
    label_N, train_mask_PN = label_N.to(device), train_mask_PN.to(device)
    strength_P = strength_P.to(device=device, dtype=torch.float64)
    check_features(feature_ND, label_N, num_classes=num_classes)
    _check_problems(label_N, num_classes, train_mask_PN, strength_P)
    P, D = len(strength_P), feature_ND.shape[1]
    weight_PDK, bias_PK = feature_ND.new_zeros(P, D, num_classes), feature_ND.new_zeros(P, num_classes)
    objective_P, gradient_norm_P = torch.zeros_like(strength_P), torch.zeros_like(strength_P)
    converged_P = torch.zeros(P, dtype=torch.bool, device=device)
    iterations = 0
    with full_precision():
        for batch in _batches(train_mask_PN, num_classes=num_classes, num_features=D):
            members = [train_mask_PN[problems[0]].nonzero()[:, 0] for problems in batch]
            spanned = [span(feature_ND, index_n, standardize=standardize) for index_n in members]
            logistic = LogisticBatch(
                spanned, label_N, [strength_P[problems] for problems in batch], num_classes=num_classes
            )
            end = _minimize(logistic, max_iter=max_iter, tolerance=tolerance,
                            noise=max(2 * torch.finfo(feature_ND.dtype).eps, 1e-13), history_dtype=feature_ND.dtype)  # fmt: skip
            iterations = max(iterations, end.iterations)
            problem_P = torch.tensor([problem for problems in batch for problem in problems], device=device)
            objective_P[problem_P], converged_P[problem_P] = end.value_P, end.converged_P
            scale_P = logistic.strength_P * logistic.num_images_P
            square_P = torch.linalg.vecdot(end.gradient_PFV[:, 0], end.gradient_PFV[:, -1])
            gradient_norm_P[problem_P] = square_P.clamp_min(0).sqrt() / scale_P
            for group, problems in enumerate(batch):
                own, R = spanned[group], logistic.intercept
                point_SKW = end.point_PFV[logistic.group_P == group, 0].view(len(problems), num_classes, -1)
                point_WJ = point_SKW.flatten(0, 1).T
                axes, images = own.feature_nR.shape[1], len(own.index_n)
                weight_DJ, shift_J = own.unfold(point_WJ[:axes], point_WJ[R + 1 :][:images], feature_ND)
                weight_PDK[problems] = weight_DJ.view(D, len(problems), -1).transpose(0, 1).to(weight_PDK)
                bias_SK = point_SKW[:, :, R] + shift_J.view(len(problems), -1)
                bias_PK[problems] = bias_SK.masked_fill(~logistic.present_GK[group], ABSENT_BIAS).to(bias_PK)
    return LogisticSolution(
        weight_PDK=weight_PDK, bias_PK=bias_PK, objective_P=objective_P, iterations=iterations,
        converged_P=converged_P, gradient_norm_P=gradient_norm_P,
    )  # fmt: skip


def _minimize(logistic: LogisticBatch, **options: Any) -> Minimum:
    """Minimise a batch; of large sets some strengths first, so that the others start near their ends."""
    start_PFV = logistic.start()
    if logistic.forms == 1:
        return minimize_together(logistic, start_PFV, **options)
    whole = Minimum(
        point_PFV=start_PFV, value_P=torch.zeros_like(logistic.strength_P), gradient_PFV=torch.zeros_like(start_PFV),
        iterations=0, converged_P=torch.zeros_like(logistic.strength_P, dtype=torch.bool),
    )  # fmt: skip
    turns, done = _turns(logistic), list[int]()
    for turn in turns:
        for problem in turn:
            start_PFV[problem] += _between(logistic, whole.point_PFV, problem, done)
        turn_A = torch.tensor(turn, device=start_PFV.device)

        def objective(point_AFV: Tensor, problem_A: Tensor, turn_A: Tensor = turn_A) -> tuple[Tensor, Tensor, Tensor]:
            return logistic(point_AFV, turn_A[problem_A])

        end = minimize_together(objective, start_PFV[turn_A], **options)
        for name in ("point_PFV", "value_P", "gradient_PFV", "converged_P"):
            getattr(whole, name)[turn_A] = getattr(end, name)
        whole = replace(whole, iterations=whole.iterations + end.iterations)
        done += turn
    return whole


def _turns(logistic: LogisticBatch) -> list[list[int]]:
    """Every fourth strength of each training set, the weakest penalty among them; those in the middle; the rest."""
    turns: list[list[int]] = [[], [], []]
    for group in range(len(logistic.present_GK)):
        own = (logistic.group_P == group).nonzero()[:, 0]
        for back, problem in enumerate(own[logistic.strength_P[own].argsort(descending=True)].tolist()):
            turns[0 if back % 4 == 0 else 1 if back % 2 == 0 else 2].append(problem)
    return [sorted(turn) for turn in turns if turn]


def _between(logistic: LogisticBatch, point_PFV: Tensor, problem: int, done: list[int]) -> Tensor | float:
    """Where a path through the ends of the four nearest strengths that are done has this one: cubic in the logarithm."""
    log_P = logistic.strength_P.log().tolist()
    known = {log_P[other]: other for other in done if logistic.group_P[other] == logistic.group_P[problem]}
    nodes = sorted(known, key=lambda node: abs(node - log_P[problem]))[:4]
    return sum(
        math.prod((log_P[problem] - other) / (node - other) for other in nodes if other != node)
        * point_PFV[known[node]]
        for node in nodes
    )


def _check_problems(label_N: Tensor, num_classes: int, train_mask_PN: Tensor, strength_P: Tensor) -> None:
    if strength_P.ndim != 1 or train_mask_PN.shape != (len(strength_P), len(label_N)) or len(strength_P) == 0:
        raise ValueError(
            f"train_mask must be (P, {len(label_N)}) and strength (P,) with P >= 1, "
            f"got {tuple(train_mask_PN.shape)} and {tuple(strength_P.shape)}"
        )
    if train_mask_PN.dtype != torch.bool:
        raise ValueError(f"train_mask must be bool, got {train_mask_PN.dtype}")
    wrong = ~(strength_P.isfinite() & (strength_P > 0))
    if wrong.any():
        raise ValueError(f"strength must be positive and finite, got {strength_P[wrong][0].item()}")
    for problem, mask_N in enumerate(train_mask_PN):
        num_present = len(label_N[mask_N].unique())
        if num_present < 2:
            raise ValueError(f"problem {problem} must train on at least 2 classes, got {num_present}")


def _batches(train_mask_PN: Tensor, *, num_classes: int, num_features: int) -> Iterator[list[list[int]]]:
    """Problems in lists of the same training images; those lists in batches of similar size that fit into memory."""
    same: dict[bytes, list[int]] = {}
    for problem, mask_N in enumerate(train_mask_PN.cpu().numpy()):
        same.setdefault(mask_N.tobytes(), []).append(problem)
    size_P = train_mask_PN.sum(dim=1).tolist()
    batch: list[list[int]] = []
    widest = 0
    for problems in sorted(same.values(), key=lambda problems: -size_P[problems[0]]):
        num_images = size_P[problems[0]]
        large = is_large(num_images, num_features)
        # numbers for each image: its features and the minimiser's history
        forms, features = (2, num_images) if large else (1, min(num_images, num_features + 1))
        width = max(features, 2 * HISTORY * forms * num_classes * len(problems))
        if batch:
            # padding to the largest set of the batch should at most double the work
            largest = size_P[batch[0][0]]
            fits = (len(batch) + 1) * largest * max(widest, width) <= BATCH_ELEMENTS
            if num_images * 2 < largest or large != is_large(largest, num_features) or not fits:
                yield batch
                batch, widest = [], 0
        batch.append(problems)
        widest = max(widest, width)
    yield batch
