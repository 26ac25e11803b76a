"""Weighted nearest-neighbour classification of frozen features.

Letters beside the package's alphabet: M images to classify, m some of them, j neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pretext.tasks.features import check_features, full_precision

NEIGHBOURS = (10, 20, 100, 200)
TEMPERATURE = 0.07
# Similarities held at once: 2**25 float32 are 128 MiB.
CHUNK_ELEMENTS = 2**25


@dataclass(frozen=True, slots=True, kw_only=True)
class KnnVotes:
    """Votes of the nearest neighbours.

    Attributes:
        prob_MK: For each k asked for, the neighbours' weights per class, summing to 1; in the features' dtype.
        used_k: For each k asked for, how many neighbours voted: fewer where the training set has fewer.
    """

    prob_MK: dict[int, Tensor]
    used_k: dict[int, int]


def knn_votes(
    train_ND: Tensor,
    label_N: Tensor,
    test_MD: Tensor,
    *,
    num_classes: int,
    neighbours: Sequence[int] = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> KnnVotes:
    """Classify images by their most similar training images, each voting with weight exp(cosine / temperature).

    Args:
        train_ND: Finite float32 or float64 features of the training images; their length does not matter.
        label_N: Classes 0..K-1, int64.
        test_MD: Features of the images to classify.
        num_classes: K.
        neighbours: The k to try; one larger than the training set is clipped to it, and `used_k` says so.
        temperature: Of the weights. 0.07 is the usual one.

    Returns:
        Votes for every k. Only similarities count, so scaling all features changes nothing.

    Raises:
        ValueError: If shapes or dtypes don't fit, a feature is not finite, a label is outside 0..K-1, a k is below 1,
            or the temperature is not positive.

    Cost: one M x N matrix of similarities, a chunk of rows at a time, for all k together.
    Reference: Wu, Xiong, Yu, Lin 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
        arXiv:1805.01978, sec. 3.4.
    """
    _check(train_ND, label_N, num_classes, neighbours, temperature)
    if test_MD.ndim != 2 or test_MD.shape[1] != train_ND.shape[1] or test_MD.dtype != train_ND.dtype:
        raise ValueError(
            f"test must be (M, {train_ND.shape[1]}) of {train_ND.dtype}, got {test_MD.dtype} {tuple(test_MD.shape)}"
        )
    if not test_MD.isfinite().all():
        raise ValueError(f"test must be finite, got {test_MD[~test_MD.isfinite()][0].item()}")
    return _vote(train_ND, label_N, test_MD, num_classes, neighbours, temperature)


def leave_one_out_votes(
    train_ND: Tensor,
    label_N: Tensor,
    *,
    num_classes: int,
    neighbours: Sequence[int] = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> KnnVotes:
    """Classify every training image by the others: exact leave-one-out, since nothing is fitted.

    It costs no more than classifying as many test images, and looks at no label outside the training set; so k may be
    chosen on it. A k of N or more is clipped to N - 1.

    Args:
        train_ND: As `knn_votes`, at least 2 images.
        label_N: As `knn_votes`.
        num_classes: K.
        neighbours: As `knn_votes`.
        temperature: As `knn_votes`.

    Returns:
        Votes for every k on the N training images.

    Raises:
        ValueError: As `knn_votes`, or if there is only one image.
    """
    _check(train_ND, label_N, num_classes, neighbours, temperature)
    if len(train_ND) < 2:
        raise ValueError(f"leave-one-out needs at least 2 images, got {len(train_ND)}")
    return _vote(train_ND, label_N, train_ND, num_classes, neighbours, temperature, leave_out_self=True)


def choose_k(votes: KnnVotes, label_M: Tensor) -> tuple[int, list[dict[str, float | int]]]:
    """The k with the best top-1 accuracy on images whose labels may be used; of equal ones the smallest.

    Args:
        votes: Votes on those images: held out, or `leave_one_out_votes`.
        label_M: Their classes, int64.

    Returns:
        (k as asked for, one row per k: k, used_k, top1 as a fraction).

    Raises:
        ValueError: If the number of labels is not that of the votes.
    """
    table: list[dict[str, float | int]] = []
    for k, prob_MK in sorted(votes.prob_MK.items()):
        if label_M.shape != prob_MK.shape[:1]:
            raise ValueError(f"label must be ({len(prob_MK)},), got {tuple(label_M.shape)}")
        truth_M1 = prob_MK.gather(1, label_M.to(prob_MK.device)[:, None])
        # ties count against the truth, as in pretext.tasks.scores
        correct_M = (prob_MK >= truth_M1).sum(dim=1) == 1
        table.append({"k": k, "used_k": votes.used_k[k], "top1": correct_M.double().mean().item()})
    best = max(table, key=lambda row: row["top1"])
    return int(best["k"]), table


def _similarities(train_ND: Tensor, test_MD: Tensor, *, rows: int, leave_out_self: bool = False) -> Iterator[Tensor]:
    train_DN = normalize(train_ND, dim=1).T
    for start in range(0, len(test_MD), rows):
        with full_precision():
            cosine_mN = normalize(test_MD[start : start + rows], dim=1) @ train_DN
        if leave_out_self:
            own_m = torch.arange(len(cosine_mN), device=cosine_mN.device)
            cosine_mN[own_m, own_m + start] = -torch.inf
        yield cosine_mN


def _vote(
    train_ND: Tensor, label_N: Tensor, test_MD: Tensor, num_classes: int, neighbours: Sequence[int],
    temperature: float, *, leave_out_self: bool = False,
) -> KnnVotes:  # fmt: skip
    limit = len(train_ND) - leave_out_self
    used_k = {int(k): min(int(k), limit) for k in neighbours}
    largest = max(used_k.values())
    rows = max(1, CHUNK_ELEMENTS // max(len(train_ND), largest * num_classes))
    one_hot_NK = torch.eye(num_classes, dtype=train_ND.dtype, device=train_ND.device)[label_N.to(train_ND.device)]
    parts: dict[int, list[Tensor]] = {k: [] for k in used_k}
    for cosine_mN in _similarities(train_ND, test_MD, rows=rows, leave_out_self=leave_out_self):
        nearest = cosine_mN.topk(largest, dim=1)
        # relative to the nearest, so that the exponential neither overflows nor vanishes; normalising cancels it
        weight_mj = torch.exp((nearest.values - nearest.values[:, :1]) / temperature)
        one_hot_mjK = one_hot_NK[nearest.indices]
        for k, used in used_k.items():
            # a product, because scattered additions on a GPU come in another order each time
            with full_precision():
                vote_mK = torch.bmm(weight_mj[:, None, :used], one_hot_mjK[:, :used])[:, 0]
            parts[k].append(vote_mK / weight_mj[:, :used].sum(dim=1, keepdim=True))
    return KnnVotes(prob_MK={k: torch.cat(votes) for k, votes in parts.items()}, used_k=used_k)


def _check(train_ND: Tensor, label_N: Tensor, num_classes: int, neighbours: Sequence[int], temperature: float) -> None:
    check_features(train_ND, label_N, num_classes=num_classes)
    if not neighbours or min(neighbours) < 1:
        raise ValueError(f"neighbours must be numbers of at least 1, got {list(neighbours)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
