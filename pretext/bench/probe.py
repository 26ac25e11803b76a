"""What a linear probe costs: all folds and strengths in one solve, beside scikit-learn's loop; and nearest neighbours."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from pretext.bench.measure import Contender, Row, race
from pretext.tasks.folds import kfold_train_sets
from pretext.tasks.knn import NEIGHBOURS, TEMPERATURE, knn_votes
from pretext.tasks.logistic_solver import LogisticSolution, solve_logistic
from pretext.training.device import Compute

# STL-10's training images in resnet18's last map; the strengths of Chen et al. 2020, arXiv:2002.05709, sec. B.6
IMAGES, FEATURES, FACTORS, CLASSES, FOLDS = 5000, 4608, 512, 10, 5
STRENGTHS = tuple(10.0**power for power in range(-6, 6))
# (fold, number of the strength): one of the weak and one of the strong; a fold each, as folds differ little
SAMPLES = ((1, 3), (3, 9))
SAME_OBJECTIVE, SAME_ANSWERS = 1e-3, 0.01  # relative; share of the held-out images
SECONDS = 0.0


def measure(compute: Compute) -> Iterator[Row]:
    """Rows of the part `probe`: 5,000 images, 4,608 features; they are checked to end at the same optimum."""
    feature_ND, label_N = draw_features()
    yield from _logistic_row(feature_ND, label_N, compute)
    yield from _neighbours_row(feature_ND, label_N, compute)


def draw_features() -> tuple[Tensor, Tensor]:
    """Features like a network's: positive, correlated, with a spectrum that falls over decades; and their classes."""
    generator = torch.Generator().manual_seed(0)
    label_N = torch.randperm(IMAGES, generator=generator) % CLASSES
    size_F = torch.arange(1, FACTORS + 1) ** -0.75
    center_KF = 0.12 * torch.randn(CLASSES, FACTORS, generator=generator)
    factor_NF = (center_KF[label_N] + torch.randn(IMAGES, FACTORS, generator=generator)) * size_F
    feature_ND = factor_NF @ torch.randn(FACTORS, FEATURES, generator=generator)
    return feature_ND.add_(torch.randn(IMAGES, FEATURES, generator=generator), alpha=0.15).relu_(), label_N


def _logistic_row(feature_ND: Tensor, label_N: Tensor, compute: Compute) -> list[Row]:
    sets = kfold_train_sets(len(label_N), k=FOLDS, seed=0)
    mask_FN = torch.ones(FOLDS, len(label_N), dtype=torch.bool)
    for fold, (_, heldout) in enumerate(sets):
        mask_FN[fold, heldout] = False
    on_device_ND, ours, theirs = feature_ND.to(compute.device), list[LogisticSolution](), list[Pipeline]()

    def solve(strengths: tuple[float, ...]) -> None:
        mask_PN = mask_FN.repeat_interleave(len(strengths), dim=0)
        ours.append(solve_logistic(on_device_ND, label_N, num_classes=CLASSES, train_mask_PN=mask_PN,
                                   strength_P=torch.tensor(strengths * FOLDS)))  # fmt: skip

    def loop(samples: tuple[tuple[int, int], ...]) -> None:
        theirs[:] = [_fit(feature_ND, label_N, sets[fold][0], STRENGTHS[number]) for fold, number in samples]

    rows = race(
        Contender(f"linear probe, {FOLDS} folds x {len(STRENGTHS)} strengths, {IMAGES:,} x {FEATURES:,}",
                  _FirstSmall(partial(solve, STRENGTHS), partial(solve, STRENGTHS[:1])), FOLDS * len(STRENGTHS)),
        Contender("scikit-learn's StandardScaler and LogisticRegression in a loop",
                  _FirstSmall(partial(loop, SAMPLES), partial(loop, SAMPLES[:1])), len(SAMPLES), 20),
        part="probe", unit="models", device=compute.device, seconds=SECONDS, least=1,
        note=f"the loop was timed once, on {len(SAMPLES)} of the {FOLDS * len(STRENGTHS)} models, with strengths "
        + ", ".join(f"{STRENGTHS[number]:g}" for _, number in SAMPLES) + "; in float64 and to tolerances with which it reaches "
        f"the same objective within {SAME_OBJECTIVE:g}",
    )  # fmt: skip
    for model, (fold, number) in zip(theirs, SAMPLES, strict=True):
        _check(model, ours[-1], fold * len(STRENGTHS) + number, STRENGTHS[number], feature_ND, label_N, sets[fold])
    return rows


class _FirstSmall:
    """Work whose first call, which only warms up, is a small part of it."""

    def __init__(self, work: Callable[[], None], small: Callable[[], None]) -> None:
        self._next, self._work = small, work

    def __call__(self) -> None:
        self._next()
        self._next = self._work


def _fit(feature_ND: Tensor, label_N: Tensor, train: np.ndarray, strength: float) -> Pipeline:
    """One fit of the loop. In float32 it would stop far from the optimum of a weak penalty."""
    tolerance = min(1e-4, 1e-5 / strength)  # of the gradient of the mean loss, which falls with the penalty
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=tolerance, max_iter=10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model.fit(feature_ND[train].double().numpy(), label_N[train].numpy())


def _check(model: Pipeline, ours: LogisticSolution, problem: int, strength: float, feature_ND: Tensor, label_N: Tensor,
           fold: tuple[np.ndarray, np.ndarray]) -> None:  # fmt: skip
    train, heldout = fold
    log_nK = model.predict_log_proba(feature_ND[train].double().numpy())
    objective = 0.5 * np.square(model[-1].coef_).sum() - strength * log_nK[np.arange(len(train)), label_N[train]].sum()
    difference = ours.objective_P[problem].item() / objective - 1
    assert abs(difference) < SAME_OBJECTIVE, f"objectives differ by {difference:.2g} at strength {strength:g}"
    weight_DK, bias_K = ours.weight_PDK[problem].cpu(), ours.bias_PK[problem].cpu()
    right = ((feature_ND[heldout] @ weight_DK + bias_K).argmax(dim=1) == label_N[heldout]).float().mean().item()
    other = model.score(feature_ND[heldout].double().numpy(), label_N[heldout].numpy())
    assert abs(right - other) <= SAME_ANSWERS, f"accuracies {right} and {other} differ at strength {strength:g}"


def _neighbours_row(feature_ND: Tensor, label_N: Tensor, compute: Compute) -> list[Row]:
    train, heldout = kfold_train_sets(len(label_N), k=FOLDS, seed=0)[0]
    known_ND, asked_MD = (feature_ND[rows].to(compute.device) for rows in (train, heldout))
    sizes = [k for k in NEIGHBOURS if k <= len(train)]

    def ours() -> list[np.ndarray]:
        votes = knn_votes(known_ND, label_N[train], asked_MD, num_classes=CLASSES, neighbours=sizes)
        return [votes.prob_MK[k].argmax(dim=1).cpu().numpy() for k in sizes]

    def loop() -> list[np.ndarray]:
        return [
            KNeighborsClassifier(k, metric="cosine", weights=lambda distance: np.exp(-distance / TEMPERATURE))
            .fit(feature_ND[train].numpy(), label_N[train].numpy()).predict(feature_ND[heldout].numpy())
            for k in sizes
        ]  # fmt: skip

    for k, own, other in zip(sizes, ours(), loop(), strict=True):
        assert (own != other).mean() <= SAME_ANSWERS, f"{(own != other).sum()} answers of {k} neighbours differ"
    return race(
        Contender(f"nearest neighbours, {len(sizes)} k, {len(train):,} x {FEATURES:,}", ours, len(heldout)),
        Contender("scikit-learn's KNeighborsClassifier for each k", loop, len(heldout)),
        part="probe", unit="images", device=compute.device, seconds=SECONDS,
    )  # fmt: skip
