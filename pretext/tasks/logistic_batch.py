"""The objective of many logistic regressions, on training sets turned onto their principal axes.

A problem's weights are coordinates R on principal axes and, where a set is too large to find them all, n multipliers
of its images' remainders beside them. The inner product of the latter is the remainders' kernel, so they come in two
forms (see `pretext.tasks.lbfgs`), the second of which is what they add to the logits.

Letters beside the package's alphabet: P problems, A problems still running, G training sets of a batch, S problems
of one training set, Q running training sets, T running problems of each, n images of a set, R principal axes,
J = S K columns, W = R + 1 rows of weights and intercept, with n more where there are remainders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pretext.tasks.principal_axes import Spanned


class LogisticBatch:
    """Objective, gradient and inverse diagonal Hessian of the problems of a batch of training sets.

    A problem's variables are its weights on the principal axes, its intercepts and its multipliers, flattened from
    (K, R + 1 + n).
    """

    def __init__(
        self, spanned: Sequence[Spanned], label_N: Tensor, strengths: Sequence[Tensor], *, num_classes: int
    ) -> None:
        """Put training sets of similar size beside each other.

        Args:
            spanned: The G training sets, all with a remainder or all without.
            label_N: Labels of all images.
            strengths: scikit-learn's C of the problems of each training set, float64.
            num_classes: K.
        """
        first = spanned[0].feature_nR
        G, K = len(spanned), num_classes
        n = max(len(one.index_n) for one in spanned)
        R = max(one.feature_nR.shape[1] for one in spanned)
        rest = n if spanned[0].rest_nn is not None else 0
        # one more column, of ones, carries the intercept; rows beyond a set's own images stay zero
        self.feature_GnR1 = first.new_zeros(G, n, R + 1)
        self.rest_Gnn = first.new_zeros(G, rest, rest)
        self.real_Gn = first.new_zeros(G, n)
        self.label_Gn = label_N.new_zeros(G, n)
        self.spectrum_GW = first.new_zeros(G, R + 1 + rest, dtype=torch.float64)
        self.present_GK = torch.zeros(G, K, dtype=torch.bool, device=first.device)
        for g, one in enumerate(spanned):
            images, axes = one.feature_nR.shape
            self.feature_GnR1[g, :images, :axes] = one.feature_nR
            self.feature_GnR1[g, :images, R] = 1
            self.real_Gn[g, :images] = 1
            self.label_Gn[g, :images] = label_N[one.index_n]
            self.spectrum_GW[g, :axes] = one.spectrum_R
            self.spectrum_GW[g, R] = images
            self.present_GK[g, label_N[one.index_n]] = True
            if one.rest_nn is not None:
                self.rest_Gnn[g, :images, :images] = one.rest_nn
                # one number for all directions of the remainder, since what is multiplied with it keeps both forms
                self.spectrum_GW[g, R + 1 :] = one.rest_nn.diagonal().double().sum() / (images - axes)
        # scikit-learn fits two classes with one weight vector, the difference of these two: that doubles the penalty
        self.ridge_GW = torch.ones_like(self.spectrum_GW)
        self.ridge_GW[self.present_GK.sum(dim=1) == 2] = 2
        self.ridge_GW[:, R] = 0
        self.strength_P = torch.cat(list(strengths))
        counts = torch.tensor([len(strength) for strength in strengths], device=first.device)
        self.group_P = torch.repeat_interleave(torch.arange(G, device=first.device), counts)
        self.num_images_P = self.spectrum_GW[self.group_P, R]
        self.num_classes, self.intercept, self.forms = K, R, 2 if rest else 1
        self._layout: _Layout | None = None

    def start(self) -> Tensor:
        """All weights zero: the strictly convex problem has one optimum, and there the Hessian is known."""
        return self.strength_P.new_zeros(len(self.strength_P), self.forms, self.num_classes * self.spectrum_GW.shape[1])

    def __call__(self, point_AFV: Tensor, problem_A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `pretext.tasks.lbfgs.Objective`."""
        if self._layout is None or not torch.equal(self._layout.problem_A, problem_A):
            self._layout = self._arrange(problem_A)
        layout, axes = self._layout, self.intercept + 1
        point_AFKW = point_AFV.unflatten(2, (self.num_classes, -1))
        feature_QnR1 = layout.feature_QnR1
        weight_QTKR1 = layout.spread(point_AFKW[:, 0, :, :axes], feature_QnR1.dtype)
        logit_QTKn = _multiply(weight_QTKR1, feature_QnR1.mT)
        if self.forms == 2:
            logit_QTKn += layout.spread(point_AFKW[:, 1, :, axes:], logit_QTKn.dtype)
        loss_QTn, wrong_QTn, square_QTn = _softmax_residual_(logit_QTKn, layout.label_Qn, layout.absent_QK)
        loss_A, curvature_A = (
            layout.gather((value_QTn * layout.real_Qn[:, None]).sum(dim=2, dtype=torch.float64))
            for value_QTn in (loss_QTn, 2 * wrong_QTn - wrong_QTn.square() - square_QTn)
        )
        strength_A, group_A = self.strength_P[problem_A], self.group_P[problem_A]
        ridge_AW = self.ridge_GW[group_A]
        gradient_AFKW = point_AFKW * ridge_AW[:, None, None]  # of the penalty
        value_A = strength_A * loss_A + (point_AFKW[:, 0] * gradient_AFKW[:, -1]).sum(dim=(1, 2)) / 2
        strength_A11 = strength_A[:, None, None]
        data_AKR1 = strength_A11 * layout.gather(_multiply(logit_QTKn, feature_QnR1)).double()
        gradient_AFKW[..., :axes] += data_AKR1[:, None]
        if self.forms == 2:
            logit_QTKn *= layout.real_Qn[:, None, None]
            gradient_AFKW[:, 0, :, axes:] += strength_A11 * layout.gather(logit_QTKn).double()
            rest_QTKn = layout.spread(gradient_AFKW[:, 0, :, axes:], logit_QTKn.dtype)
            gradient_AFKW[:, 1, :, axes:] = layout.gather(_multiply(rest_QTKn, layout.rest_Qnn))
        # sum over classes of p (1 - p), mean over images, spread over the K - 1 free directions: at zero it is 1 / K
        free_A = (self.present_GK.sum(dim=1) - 1)[group_A]
        curvature_A = curvature_A / (self.num_images_P[problem_A] * free_A)
        diagonal_AW = (strength_A * curvature_A)[:, None] * self.spectrum_GW[group_A] + ridge_AW
        inverse_AW = 1 / diagonal_AW.clamp_min(torch.finfo(torch.float32).tiny)
        return value_A, gradient_AFKW.flatten(2), inverse_AW.repeat(1, self.num_classes)[:, None]

    def _arrange(self, problem_A: Tensor) -> _Layout:
        group_A = self.group_P[problem_A]
        group_Q, set_A, count_Q = group_A.unique(return_inverse=True, return_counts=True)
        place_A = torch.arange(len(problem_A), device=problem_A.device) - (count_Q.cumsum(0) - count_Q)[set_A]
        # a copy of the features only where some training sets are done
        sets: Tensor | slice = slice(None) if len(group_Q) == len(self.feature_GnR1) else group_Q
        absent_QK = ~self.present_GK[sets]
        return _Layout(
            problem_A=problem_A, set_A=set_A, place_A=place_A, width=int(count_Q.max()),
            feature_QnR1=self.feature_GnR1[sets], rest_Qnn=self.rest_Gnn[sets], real_Qn=self.real_Gn[sets],
            label_Qn=self.label_Gn[sets], absent_QK=absent_QK if absent_QK.any() else None,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where each running problem lies in the batch of matrix products: training set `set_A`, place `place_A` of T."""

    problem_A: Tensor
    set_A: Tensor
    place_A: Tensor
    width: int
    feature_QnR1: Tensor
    rest_Qnn: Tensor
    real_Qn: Tensor
    label_Qn: Tensor
    absent_QK: Tensor | None

    def spread(self, value_AKi: Tensor, dtype: torch.dtype) -> Tensor:
        """From problem by problem to (Q, T, K, i); places without a problem are zero."""
        value_QTKi = value_AKi.new_zeros(len(self.feature_QnR1), self.width, *value_AKi.shape[1:], dtype=dtype)
        value_QTKi[self.set_A, self.place_A] = value_AKi.to(dtype)
        return value_QTKi

    def gather(self, value_QTx: Tensor) -> Tensor:
        """Back to problem by problem."""
        return value_QTx[self.set_A, self.place_A]


def _multiply(value_QTKi: Tensor, matrix_Qio: Tensor) -> Tensor:
    """The rows of each training set's problems times its matrix; this side of it is the fast one for few rows."""
    return torch.bmm(value_QTKi.flatten(1, 2), matrix_Qio).unflatten(1, value_QTKi.shape[1:3])


def _softmax_residual_(logit_QTKn: Tensor, label_Qn: Tensor, absent_QK: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Turn logits, in place, into softmax minus one-hot; return loss, 1 - p(truth), and sum of the others' squares.

    Everything is built from differences to the true class's logit. Where the truth has nearly all the probability,
    log-sum-exp minus logit and p - 1 would keep no digit in float32; these forms keep them all, and with them
    weakly penalised problems converge in float32 as they do in float64.
    """
    truth_QT1n = label_Qn[:, None, None].expand(-1, logit_QTKn.shape[1], -1, -1)
    if absent_QK is not None:
        logit_QTKn.masked_fill_(absent_QK[:, None, :, None], -torch.inf)
    logit_QTKn.sub_(logit_QTKn.gather(2, truth_QT1n))
    top_QT1n = logit_QTKn.amax(dim=2, keepdim=True)
    other_QTKn = logit_QTKn.sub_(top_QT1n).exp_().scatter_(2, truth_QT1n, 0.0)
    others_QT1n = other_QTKn.sum(dim=2, keepdim=True)
    total_QT1n = others_QT1n + torch.exp(-top_QT1n)
    loss_QT1n = top_QT1n + torch.log1p(others_QT1n + torch.expm1(-top_QT1n))
    other_QTKn.div_(total_QT1n)
    wrong_QT1n = others_QT1n.div_(total_QT1n)
    square_QTn = other_QTKn.square().sum(dim=2)
    other_QTKn.scatter_(2, truth_QT1n, -wrong_QT1n)
    return loss_QT1n.squeeze(2), wrong_QT1n.squeeze(2), square_QTn
