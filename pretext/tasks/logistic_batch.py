"""The objective of many logistic regressions, on training sets turned onto their principal axes.

Letters beside the package's alphabet: P problems, A problems still running, G training sets of a batch, S problems
of one training set, Q running training sets, T running problems of each, n images of a set, R directions it spans,
J = S K columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**23


@dataclass(frozen=True, slots=True, kw_only=True)
class Spanned:
    """One training set: standardised, and turned onto its principal axes without loss.

    Attributes:
        index_n: Its images.
        feature_nR: Coordinates on the principal axes, in the features' dtype; the mean of each is 0.
        spectrum_R: Sum of squares of each coordinate; float64, ascending, positive.
        mean_D: Mean of the raw features; float64.
        scale_D: What the centred features are divided by; float64, positive.
        wide: Whether there are more features than images.
        basis: The axes, (D, R); where wide, (n, R): the axes are its products with the standardised images. float64.
    """

    index_n: Tensor
    feature_nR: Tensor
    spectrum_R: Tensor
    mean_D: Tensor
    scale_D: Tensor
    wide: bool
    basis: Tensor

    def unfold(self, weight_RJ: Tensor, feature_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Weights on the raw features, and what centring adds to the intercepts: (weight_DJ, shift_J), float64."""
        weight_DJ = self.basis @ weight_RJ
        if self.wide:
            columns = _columns(feature_ND, self.index_n, self.mean_D, self.scale_D)
            weight_DJ = torch.cat([standard_nd.T @ weight_DJ for standard_nd in columns])
        weight_DJ = weight_DJ / self.scale_D[:, None]
        return weight_DJ, -self.mean_D @ weight_DJ


def span(feature_ND: Tensor, index_n: Tensor, *, standardize: bool) -> Spanned:
    """Standardise one training set and turn it onto its principal axes.

    Args:
        feature_ND: All images' features.
        index_n: The images of the training set, at least one.
        standardize: False only centres, which a free intercept makes no difference to.

    Returns:
        The set in coordinates of its own span, with what is needed to come back.

    Cost: an n x D product with itself and an eigendecomposition of side min(n, D), in float64.
    """
    n, D = len(index_n), feature_ND.shape[1]
    mean_D, scale_D = _moments(feature_ND, index_n)
    if not standardize:
        scale_D = torch.ones_like(scale_D)
    wide = n < D
    chunks = (_columns if wide else _rows)(feature_ND, index_n, mean_D, scale_D)
    gram = mean_D.new_zeros((n, n) if wide else (D, D))
    for chunk in chunks:
        gram += chunk @ chunk.T if wide else chunk.T @ chunk
    spectrum, axes = torch.linalg.eigh(gram)
    kept = spectrum > spectrum[-1].clamp_min(0) * max(n, D) * torch.finfo(torch.float64).eps
    spectrum_R, axes = spectrum[kept], axes[:, kept]
    if wide:
        feature_nR = (axes * spectrum_R.sqrt()).to(feature_ND.dtype)
        basis = axes / spectrum_R.sqrt()
    else:
        rows = [(chunk @ axes).to(feature_ND.dtype) for chunk in _rows(feature_ND, index_n, mean_D, scale_D)]
        feature_nR, basis = torch.cat(rows), axes
    return Spanned(
        index_n=index_n, feature_nR=feature_nR, spectrum_R=spectrum_R, mean_D=mean_D, scale_D=scale_D,
        wide=wide, basis=basis,
    )  # fmt: skip


class LogisticBatch:
    """Objective, gradient and inverse diagonal Hessian of the problems of a batch of training sets.

    A problem's variables are its weights on the principal axes and its intercepts, flattened from (R + 1, K).
    """

    def __init__(
        self, spanned: Sequence[Spanned], label_N: Tensor, strengths: Sequence[Tensor], *, num_classes: int
    ) -> None:
        """Put training sets of similar size beside each other.

        Args:
            spanned: The G training sets.
            label_N: Labels of all images.
            strengths: scikit-learn's C of the problems of each training set, float64.
            num_classes: K.
        """
        first = spanned[0].feature_nR
        G, K = len(spanned), num_classes
        n = max(len(one.index_n) for one in spanned)
        R = max(one.feature_nR.shape[1] for one in spanned)
        # one more column, of ones, carries the intercept; rows beyond a set's own images stay zero
        self.feature_GnR1 = first.new_zeros(G, n, R + 1)
        self.real_Gn = first.new_zeros(G, n)
        self.label_Gn = label_N.new_zeros(G, n)
        self.spectrum_GR1 = first.new_zeros(G, R + 1, dtype=torch.float64)
        self.present_GK = torch.zeros(G, K, dtype=torch.bool, device=first.device)
        for g, one in enumerate(spanned):
            images, directions = one.feature_nR.shape
            self.feature_GnR1[g, :images, :directions] = one.feature_nR
            self.feature_GnR1[g, :images, R] = 1
            self.real_Gn[g, :images] = 1
            self.label_Gn[g, :images] = label_N[one.index_n]
            self.spectrum_GR1[g, :directions] = one.spectrum_R
            self.spectrum_GR1[g, R] = images
            self.present_GK[g, label_N[one.index_n]] = True
        # scikit-learn fits two classes with one weight vector, the difference of these two: that doubles the penalty
        self.ridge_GR1 = torch.ones_like(self.spectrum_GR1)
        self.ridge_GR1[self.present_GK.sum(dim=1) == 2] = 2
        self.ridge_GR1[:, R] = 0
        self.strength_P = torch.cat(list(strengths))
        counts = torch.tensor([len(strength) for strength in strengths], device=first.device)
        self.group_P = torch.repeat_interleave(torch.arange(G, device=first.device), counts)
        self.num_images_P = self.spectrum_GR1[self.group_P, R]
        self.num_classes, self.num_rows = K, R + 1
        self._layout: _Layout | None = None

    def start(self) -> Tensor:
        """All weights zero: the strictly convex problem has one optimum, and there the Hessian is known."""
        return self.strength_P.new_zeros(len(self.strength_P), self.num_rows * self.num_classes)

    def __call__(self, point_AV: Tensor, problem_A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `pretext.tasks.lbfgs.Objective`."""
        if self._layout is None or len(self._layout.problem_A) != len(problem_A):
            self._layout = self._arrange(problem_A)
        layout = self._layout
        K = self.num_classes
        Q, n, _ = layout.feature_QnR1.shape
        weight_ARK = point_AV.reshape(len(problem_A), self.num_rows, K)
        weight_QRTK = layout.feature_QnR1.new_zeros(Q, self.num_rows, layout.width, K)
        weight_QRTK[layout.set_A, :, layout.place_A] = weight_ARK.to(weight_QRTK.dtype)
        logit_QnTK = torch.bmm(layout.feature_QnR1, weight_QRTK.flatten(2)).view(Q, n, layout.width, K)
        loss_QnT, wrong_QnT, square_QnT = _softmax_residual_(logit_QnTK, layout.label_Qn, layout.absent_QK)
        gradient_QRTK = torch.bmm(layout.feature_QnR1.transpose(1, 2), logit_QnTK.flatten(2))
        gradient_QRTK = gradient_QRTK.view(Q, self.num_rows, layout.width, K)

        loss_A, curvature_A = (
            (value_QnT * layout.real_Qn[:, :, None]).sum(dim=1, dtype=torch.float64)[layout.set_A, layout.place_A]
            for value_QnT in (loss_QnT, 2 * wrong_QnT - wrong_QnT.square() - square_QnT)
        )
        strength_A, group_A = self.strength_P[problem_A], self.group_P[problem_A]
        ridge_AR = self.ridge_GR1[group_A]
        penalty_ARK = weight_ARK * ridge_AR[:, :, None]
        value_A = strength_A * loss_A + (weight_ARK * penalty_ARK).sum(dim=(1, 2)) / 2
        data_ARK = gradient_QRTK.permute(0, 2, 1, 3)[layout.set_A, layout.place_A].double()
        gradient_ARK = strength_A[:, None, None] * data_ARK + penalty_ARK
        # sum over classes of p (1 - p), mean over images, spread over the K - 1 free directions: at zero it is 1 / K
        free_A = (self.present_GK.sum(dim=1) - 1)[group_A]
        curvature_A = curvature_A / (self.num_images_P[problem_A] * free_A)
        diagonal_AR = (strength_A * curvature_A)[:, None] * self.spectrum_GR1[group_A] + ridge_AR
        inverse_AR = 1 / diagonal_AR.clamp_min(torch.finfo(torch.float32).tiny)
        return value_A, gradient_ARK.flatten(1), inverse_AR.repeat_interleave(K, dim=1)

    def _arrange(self, problem_A: Tensor) -> _Layout:
        group_A = self.group_P[problem_A]
        group_Q, set_A, count_Q = group_A.unique(return_inverse=True, return_counts=True)
        place_A = torch.arange(len(problem_A), device=problem_A.device) - (count_Q.cumsum(0) - count_Q)[set_A]
        # a copy of the features only where some training sets are done
        sets: Tensor | slice = slice(None) if len(group_Q) == len(self.feature_GnR1) else group_Q
        absent_QK = ~self.present_GK[sets]
        return _Layout(
            problem_A=problem_A, set_A=set_A, place_A=place_A, width=int(count_Q.max()),
            feature_QnR1=self.feature_GnR1[sets], real_Qn=self.real_Gn[sets], label_Qn=self.label_Gn[sets],
            absent_QK=absent_QK if absent_QK.any() else None,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where each running problem lies in the batch of matrix products: training set `set_A`, place `place_A` of T."""

    problem_A: Tensor
    set_A: Tensor
    place_A: Tensor
    width: int
    feature_QnR1: Tensor
    real_Qn: Tensor
    label_Qn: Tensor
    absent_QK: Tensor | None


def _softmax_residual_(logit_QnTK: Tensor, label_Qn: Tensor, absent_QK: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Turn logits, in place, into softmax minus one-hot; return loss, 1 - p(truth), and sum of the others' squares.

    Everything is built from differences to the true class's logit. Where the truth has nearly all the probability,
    log-sum-exp minus logit and p - 1 would keep no digit in float32; these forms keep them all, and with them
    weakly penalised problems converge in float32 as they do in float64.
    """
    truth_QnTK1 = label_Qn[:, :, None, None].expand(-1, -1, logit_QnTK.shape[2], -1)
    if absent_QK is not None:
        logit_QnTK.masked_fill_(absent_QK[:, None, None], -torch.inf)
    logit_QnTK.sub_(logit_QnTK.gather(3, truth_QnTK1))
    top_QnT1 = logit_QnTK.amax(dim=3, keepdim=True)
    other_QnTK = logit_QnTK.sub_(top_QnT1).exp_().scatter_(3, truth_QnTK1, 0.0)
    others_QnT1 = other_QnTK.sum(dim=3, keepdim=True)
    total_QnT1 = others_QnT1 + torch.exp(-top_QnT1)
    loss_QnT1 = top_QnT1 + torch.log1p(others_QnT1 + torch.expm1(-top_QnT1))
    other_QnTK.div_(total_QnT1)
    wrong_QnT1 = others_QnT1.div_(total_QnT1)
    square_QnT = torch.linalg.vecdot(other_QnTK, other_QnTK, dim=3)
    other_QnTK.scatter_(3, truth_QnTK1, -wrong_QnT1)
    return loss_QnT1.squeeze(3), wrong_QnT1.squeeze(3), square_QnT


def _moments(feature_ND: Tensor, index_n: Tensor) -> tuple[Tensor, Tensor]:
    n, D = len(index_n), feature_ND.shape[1]
    nothing = torch.zeros(D, dtype=torch.float64, device=feature_ND.device)
    means, scales = [], []
    for raw_nd in _columns(feature_ND, index_n, nothing, nothing + 1):
        mean_d = raw_nd.mean(dim=0)
        variance_d = (raw_nd - mean_d).square().mean(dim=0)
        # scikit-learn's bound on the rounding error of a constant feature's variance
        eps = torch.finfo(torch.float64).eps
        constant_d = variance_d <= n * eps * variance_d + (n * mean_d * eps).square()
        means.append(mean_d)
        scales.append(torch.where(constant_d, 1.0, variance_d.sqrt()))
    return torch.cat(means), torch.cat(scales)


def _columns(feature_ND: Tensor, index_n: Tensor, mean_D: Tensor, scale_D: Tensor) -> Iterator[Tensor]:
    """Standardised features in float64, some columns at a time."""
    step = max(1, CHUNK_ELEMENTS // len(index_n))
    for start in range(0, feature_ND.shape[1], step):
        columns = slice(start, start + step)
        raw_nd = feature_ND[:, columns].index_select(0, index_n).double()
        yield (raw_nd - mean_D[columns]) / scale_D[columns]


def _rows(feature_ND: Tensor, index_n: Tensor, mean_D: Tensor, scale_D: Tensor) -> Iterator[Tensor]:
    """Standardised features in float64, some rows at a time."""
    for rows in index_n.split(max(1, CHUNK_ELEMENTS // feature_ND.shape[1])):
        yield (feature_ND.index_select(0, rows).double() - mean_D) / scale_D
