"""The linear probe: logistic regressions on frozen features, each with a strength chosen without the test images.

Letters beside the package's alphabet: F folds, S strengths, n held-out images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretext.tasks.features import check_features, full_precision
from pretext.tasks.folds import Index, TrainSet, check_train_sets, inner_train_sets
from pretext.tasks.logistic_solver import solve_logistic

__all__ = ["DEFAULT_STRENGTH", "FoldFit", "choose_strength", "heldout_losses", "probe_folds", "solve_logistic"]

DEFAULT_STRENGTH = 1.0
# Weights that one solve may return: 2**27 float32 are 512 MiB.
SOLVE_WEIGHTS = 2**27


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldFit:
    """The linear probe of one fold.

    Attributes:
        weight_DK: Logits are feature_ND @ weight_DK + bias_K, on raw features. Dtype and device of the features.
        bias_K: Intercepts.
        strength: scikit-learn's C, as chosen.
        chosen_by: "heldout" (the folds' held-out parts), "inner" (parts of the fold's own training images), or
            "default" (no class had two labels, so nothing could be held out).
        selection_table: One row per strength: strength, loss (mean log-loss where it was chosen), converged (whether
            all its fits did). Empty for "default".
        converged: Whether this fit did.
    """

    weight_DK: Tensor
    bias_K: Tensor
    strength: float
    chosen_by: str
    selection_table: list[dict[str, float | bool]]
    converged: bool

    def logits(self, feature_ND: Tensor) -> Tensor:
        """Logits of other images' features, (N, K)."""
        with full_precision():
            return feature_ND.to(self.weight_DK) @ self.weight_DK + self.bias_K


def probe_folds(
    feature_ND: Tensor,
    label_N: Tensor,
    train_sets: Sequence[TrainSet],
    *,
    strengths: Sequence[float],
    num_classes: int,
    select: str,
    inner_folds: int = 5,
    seed: int = 0,
) -> list[FoldFit]:
    """Fit a linear probe on every training set, with a strength chosen on labelled images that it does not fit.

    Args:
        feature_ND: Finite float32 or float64 features of all labelled images; their device does the work.
        label_N: Classes 0..K-1, int64.
        train_sets: Pairs (train, held out) of indices, one per fold.
        strengths: scikit-learn's C to choose from.
        num_classes: K.
        select: "heldout": one strength for all folds, by the mean over folds of the log-loss on each one's held-out
            part; the fold models are those already fitted. For k folds judged on a separate test split. "inner": each
            fold chooses its own by an inner stratified k-fold on its training images, and is fitted again on all of
            them; held-out parts are not looked at. For official folds, few labels, and folds judged on held-out parts.
        inner_folds: Inner parts wanted; fewer where a class has fewer labels (`inner_train_sets`). Where no class has
            two, the strength is 1.0 and `chosen_by` says so.
        seed: Seed of the inner parts.

    Returns:
        One fit per training set, in order.

    Raises:
        ValueError: If a fold or strength is unusable, or `select` is unknown, or "heldout" with an empty held-out part.

    Cost: "heldout" F x S problems; "inner" inner_folds x F x S + F problems, on as many different training sets.
    """
    label_N = label_N.to(feature_ND.device)
    check_features(feature_ND, label_N, num_classes=num_classes)
    check_train_sets(train_sets, num_images=len(label_N))
    strengths = [float(strength) for strength in strengths]
    if not strengths or len(set(strengths)) < len(strengths):
        raise ValueError(f"strengths must be at least one value, each once, got {strengths}")
    if select == "heldout":
        return _select_on_heldout(feature_ND, label_N, train_sets, strengths, num_classes)
    if select == "inner":
        return _select_on_inner(feature_ND, label_N, train_sets, strengths, num_classes, inner_folds, seed)
    raise ValueError(f"select must be 'heldout' or 'inner', got {select!r}")


def choose_strength(loss_FS: NDArray[np.float64], strengths: Sequence[float]) -> float:
    """The strength with the smallest mean loss over folds; of equal ones the smallest, the most regularised.

    Args:
        loss_FS: Mean held-out log-loss of each fold and strength; every fold counts the same.
        strengths: The S strengths.

    Returns:
        One of `strengths`.

    Raises:
        ValueError: If the shapes don't fit, or no mean is finite.
    """
    if loss_FS.ndim != 2 or loss_FS.shape[1] != len(strengths) or len(loss_FS) == 0:
        raise ValueError(f"loss must be (F, {len(strengths)}) with F >= 1, got {loss_FS.shape}")
    mean_S = loss_FS.mean(axis=0)
    if not np.isfinite(mean_S).any():
        raise ValueError(f"loss must be finite for some strength, got {mean_S.tolist()}")
    return min(
        (loss, strength) for loss, strength in zip(mean_S.tolist(), strengths, strict=True) if np.isfinite(loss)
    )[1]


def heldout_losses(feature_nD: Tensor, label_n: Tensor, weight_SDK: Tensor, bias_SK: Tensor) -> NDArray[np.float64]:
    """Mean log-loss, in nats, of S linear models on the same images."""
    with full_precision():
        logit_nSK = torch.einsum("nd,sdk->nsk", feature_nD, weight_SDK) + bias_SK
    log_nSK = torch.log_softmax(logit_nSK.double(), dim=2)
    truth_nS = log_nSK.gather(2, label_n[:, None, None].expand(-1, len(bias_SK), 1))[:, :, 0]
    return -truth_nS.mean(dim=0).cpu().numpy()


@dataclass(frozen=True, slots=True)
class _Fits:
    """One training set solved at every strength, or at its own."""

    weight_SDK: Tensor
    bias_SK: Tensor
    converged_S: NDArray[np.bool_]


def _solve_sets(
    feature_ND: Tensor, label_N: Tensor, trains: Sequence[Index], strengths: Sequence[Sequence[float]], num_classes: int
) -> Iterator[_Fits]:
    """Solve all training sets together, as far as the weights fit into memory."""
    weights_per_set = max(map(len, strengths), default=1) * feature_ND.shape[1] * num_classes
    step = max(1, SOLVE_WEIGHTS // weights_per_set)
    for start in range(0, len(trains), step):
        part, part_strengths = trains[start : start + step], strengths[start : start + step]
        mask_GN = torch.zeros(len(part), len(label_N), dtype=torch.bool, device=feature_ND.device)
        for group, train in enumerate(part):
            mask_GN[group, torch.from_numpy(train).to(mask_GN.device)] = True
        counts = torch.tensor([len(own) for own in part_strengths], device=mask_GN.device)
        solution = solve_logistic(
            feature_ND,
            label_N,
            num_classes=num_classes,
            train_mask_PN=mask_GN.repeat_interleave(counts, dim=0),
            strength_P=torch.tensor([strength for own in part_strengths for strength in own], dtype=torch.float64),
        )
        yield from map(
            _Fits,
            solution.weight_PDK.split(counts.tolist()),
            solution.bias_PK.split(counts.tolist()),
            np.split(solution.converged_P.cpu().numpy(), counts.cumsum(0)[:-1].tolist()),
        )


def _heldout_losses(feature_ND: Tensor, label_N: Tensor, heldout: Index, fits: _Fits) -> NDArray[np.float64]:
    index_n = torch.from_numpy(heldout).to(feature_ND.device)
    return heldout_losses(feature_ND[index_n], label_N[index_n], fits.weight_SDK, fits.bias_SK)


def _select_on_heldout(
    feature_ND: Tensor, label_N: Tensor, train_sets: Sequence[TrainSet], strengths: list[float], num_classes: int
) -> list[FoldFit]:
    for fold, (_, heldout) in enumerate(train_sets):
        if len(heldout) == 0:
            raise ValueError(f"fold {fold} holds out 0 images, so nothing can be chosen on them; use select='inner'")
    trains = [train for train, _ in train_sets]
    fits = list(_solve_sets(feature_ND, label_N, trains, [strengths] * len(trains), num_classes))
    loss_FS = np.stack([
        _heldout_losses(feature_ND, label_N, heldout, fit) for (_, heldout), fit in zip(train_sets, fits, strict=True)
    ])  # fmt: skip
    table = _selection_table(loss_FS, np.stack([fit.converged_S for fit in fits]), strengths)
    strength = choose_strength(loss_FS, strengths)
    s = strengths.index(strength)
    return [
        FoldFit(weight_DK=fit.weight_SDK[s].clone(), bias_K=fit.bias_SK[s].clone(), strength=strength,
                chosen_by="heldout", selection_table=table, converged=bool(fit.converged_S[s]))
        for fit in fits
    ]  # fmt: skip


def _select_on_inner(
    feature_ND: Tensor, label_N: Tensor, train_sets: Sequence[TrainSet], strengths: list[float], num_classes: int,
    inner_folds: int, seed: int,
) -> list[FoldFit]:  # fmt: skip
    trains = [train for train, _ in train_sets]
    label_host_N = label_N.cpu().numpy()
    inner_sets = [inner_train_sets(label_host_N, train, k=inner_folds, seed=seed) for train in trains]
    flat = [(fold, *inner) for fold, inners in enumerate(inner_sets) for inner in inners]
    losses: list[list[NDArray[np.float64]]] = [[] for _ in trains]
    converged: list[list[NDArray[np.bool_]]] = [[] for _ in trains]
    fits = _solve_sets(feature_ND, label_N, [inner for _, inner, _ in flat], [strengths] * len(flat), num_classes)
    for (fold, _, heldout), fit in zip(flat, fits, strict=True):
        losses[fold].append(_heldout_losses(feature_ND, label_N, heldout, fit))
        converged[fold].append(fit.converged_S)
    tables = [
        _selection_table(np.stack(loss), np.stack(done), strengths) if loss else []
        for loss, done in zip(losses, converged, strict=True)
    ]
    chosen = [choose_strength(np.stack(loss), strengths) if loss else DEFAULT_STRENGTH for loss in losses]
    final = _solve_sets(feature_ND, label_N, trains, [[strength] for strength in chosen], num_classes)
    return [
        FoldFit(weight_DK=fit.weight_SDK[0].clone(), bias_K=fit.bias_SK[0].clone(), strength=strength,
                chosen_by="inner" if table else "default", selection_table=table, converged=bool(fit.converged_S[0]))
        for fit, strength, table in zip(final, chosen, tables, strict=True)
    ]  # fmt: skip


def _selection_table(
    loss_FS: NDArray[np.float64], converged_FS: NDArray[np.bool_], strengths: Sequence[float]
) -> list[dict[str, float | bool]]:
    return [
        {"strength": strength, "loss": loss, "converged": converged}
        for strength, loss, converged in zip(
            strengths, loss_FS.mean(axis=0).tolist(), np.all(converged_FS, axis=0).tolist(), strict=True
        )
    ]
