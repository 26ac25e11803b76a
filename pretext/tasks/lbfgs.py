"""Many smooth convex problems minimised together by L-BFGS, each with its own line search.

Letters beside the package's alphabet: P problems, A problems in the batch, V variables of one problem, F forms of a
vector. Where the inner product of a problem's space is not that of its coordinates, a vector comes in two forms: its
coordinates, and those times the inner product's matrix; the product of two vectors is then the first form of one with
the last form of the other, and no step needs the matrix itself. Elsewhere there is one form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

HISTORY = 10
ARMIJO = 1e-4
SMALLEST_STEP = 1e-10
# Problems leave once the batch would shrink to this share.
KEPT_SHARE = 0.9

# (point_AFV, problem_A) -> value_A, gradient_AFV, inverse_A1V: the last is the inverse of an estimate of the Hessian's
# diagonal at the point, the same for all forms, which it must leave forms of one vector. problem_A holds the ascending
# numbers of the problems in the batch.
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Minimum:
    """Where the minimisation of each problem ended.

    Attributes:
        point_PFV: The points reached, float64.
        value_P: The objectives there, float64.
        gradient_PFV: The gradients there, float64.
        iterations: Evaluations of the batch until the last problem stopped.
        converged_P: Whether the expected further decrease is within the tolerance.
    """

    point_PFV: Tensor
    value_P: Tensor
    gradient_PFV: Tensor
    iterations: int
    converged_P: Tensor


@dataclass(slots=True)
class _Running:
    """The state of the problems in the batch, one row each."""

    problem_A: Tensor
    open_A: Tensor
    point_AFV: Tensor
    value_A: Tensor
    gradient_AFV: Tensor
    inverse_A1V: Tensor
    direction_AFV: Tensor
    step_A: Tensor
    restarted_A: Tensor

    def keep(self, stays_A: Tensor) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name)[stays_A])


@torch.no_grad()
def minimize_together(
    objective: Objective,
    start_PFV: Tensor,
    *,
    max_iter: int,
    tolerance: float,
    noise: float,
    history_dtype: torch.dtype = torch.float64,
) -> Minimum:
    """Minimise P smooth convex functions of V variables each, from starting points (P, F, V).

    Every pass evaluates one trial point of every problem. A problem whose trial is good enough takes it and turns to
    its next direction; another shortens its step and tries again in the next pass. So no problem waits for another's
    line search. Problems that are done leave the batch, in groups, since leaving copies what stays.

    A problem is done when the decrease that a quadratic model still expects is at most `tolerance` times its
    objective, whatever the scale of objective and variables. Two models are asked, the larger answer counts: that of
    L-BFGS, and that of the estimated diagonal.

    Args:
        objective: Values, gradients and inverse diagonals at given points, float64.
        start_PFV: Starting points, float64.
        max_iter: Most evaluations.
        tolerance: Relative decrease worth going on for. The relative distance from the minimum that is left was 1 to
            20 times this for logistic regressions.
        noise: Relative rounding error of an objective; a rise below it does not reject a step that flattens the slope.
        history_dtype: Precision of the history and of the directions made from it; it moves most of the memory.

    Returns:
        The points reached. A problem that ran out of evaluations, or whose steps no longer help, is not converged.

    Cost: one evaluation per pass, and a history of 2 x 10 x P x F x V.
    Reference: Liu, Nocedal 1989, Math. Programming 45. Approximate Wolfe condition: Hager, Zhang 2005, SIAM J. Optim.
    """
    problem_P = torch.arange(len(start_PFV), device=start_PFV.device)
    value_P, gradient_PFV, inverse_P1V = objective(start_PFV, problem_P)
    now = _Running(
        problem_P, torch.ones_like(value_P, dtype=torch.bool), start_PFV, value_P, gradient_PFV, inverse_P1V,
        -inverse_P1V * gradient_PFV, torch.ones_like(value_P), torch.zeros_like(value_P, dtype=torch.bool),
    )  # fmt: skip
    history = _History(start_PFV, history_dtype)
    end = Minimum(
        point_PFV=start_PFV.clone(), value_P=value_P.clone(), gradient_PFV=gradient_PFV.clone(), iterations=0,
        converged_P=torch.zeros_like(now.open_A),
    )  # fmt: skip
    passes = 1
    while True:
        slope_A = _dot(now.gradient_AFV, now.direction_AFV)
        expected_A = torch.maximum(-slope_A, _dot(now.gradient_AFV, now.inverse_A1V * now.gradient_AFV)) / 2
        done_A = expected_A <= tolerance * now.value_A.abs()
        stuck_A = (now.step_A < SMALLEST_STEP) & ~done_A
        leaves_A = now.open_A & (done_A | (stuck_A & now.restarted_A) | (passes >= max_iter))
        gone_L = now.problem_A[leaves_A]
        if len(gone_L):
            end.point_PFV[gone_L] = now.point_AFV[leaves_A]
            end.value_P[gone_L] = now.value_A[leaves_A]
            end.gradient_PFV[gone_L] = now.gradient_AFV[leaves_A]
            end.converged_P[gone_L] = done_A[leaves_A]
            now.open_A = now.open_A & ~leaves_A
            num_open = int(now.open_A.sum())
            if num_open == 0:
                break
            if num_open <= KEPT_SHARE * len(now.open_A):
                stuck_A, stays_A = stuck_A[now.open_A], now.open_A
                history.keep(stays_A)
                now.keep(stays_A)
        stuck_A = stuck_A & now.open_A
        if stuck_A.any():
            # rounding can spoil the history; such a problem gets one fresh start before it is given up
            history.forget(stuck_A)
            now.direction_AFV[stuck_A] = -(now.inverse_A1V * now.gradient_AFV)[stuck_A]
            now.step_A[stuck_A] = 1.0
            now.restarted_A |= stuck_A
        _advance(now, history, objective, noise=noise)
        passes += 1
    return Minimum(
        point_PFV=end.point_PFV, value_P=end.value_P, gradient_PFV=end.gradient_PFV, iterations=passes,
        converged_P=end.converged_P,
    )  # fmt: skip


def _advance(now: _Running, history: _History, objective: Objective, *, noise: float) -> None:
    """Try one step of every problem in the batch: take it, or shorten it for the next pass."""
    slope_A = _dot(now.gradient_AFV, now.direction_AFV)
    trial_AFV = torch.addcmul(now.point_AFV, now.step_A[:, None, None], now.direction_AFV)
    value_A, gradient_AFV, inverse_A1V = objective(trial_AFV, now.problem_A)
    lower_A = value_A <= now.value_A + ARMIJO * now.step_A * slope_A
    # near the minimum the values' rounding hides the decrease; there the slope decides
    flatter_A = _dot(gradient_AFV, now.direction_AFV) <= (2 * ARMIJO - 1) * slope_A
    good_A = lower_A | ((value_A <= now.value_A + noise * now.value_A.abs()) & flatter_A)
    history.add(good_A, trial_AFV - now.point_AFV, gradient_AFV - now.gradient_AFV, inverse_A1V)

    # the minimum of the parabola through the old value, its slope and the trial's value
    parabola_A = -slope_A * now.step_A.square() / (2 * (value_A - now.value_A - slope_A * now.step_A))
    shorter_A = torch.where(parabola_A.isfinite(), parabola_A, 0.0).clamp(0.1 * now.step_A, 0.5 * now.step_A)
    now.step_A = torch.where(good_A, 1.0, shorter_A)
    now.restarted_A = now.restarted_A & ~good_A
    good_A11 = good_A[:, None, None]
    now.point_AFV = torch.where(good_A11, trial_AFV, now.point_AFV)
    now.value_A = torch.where(good_A, value_A, now.value_A)
    now.gradient_AFV = torch.where(good_A11, gradient_AFV, now.gradient_AFV)
    now.inverse_A1V = torch.where(good_A11, inverse_A1V, now.inverse_A1V)
    now.direction_AFV = torch.where(good_A11, -history.apply(now.gradient_AFV, now.inverse_A1V), now.direction_AFV)


class _History:
    """The last steps and gradient changes of each problem, in a ring that all problems turn together.

    A pass in which a problem took no step leaves a place without effect. Letter M: places.
    """

    def __init__(self, point_AFV: Tensor, dtype: torch.dtype) -> None:
        shape = (HISTORY, *point_AFV.shape)
        self.step_MAFV = point_AFV.new_zeros(shape, dtype=dtype)
        self.change_MAFV = torch.zeros_like(self.step_MAFV)
        self.inverse_MA = point_AFV.new_zeros(shape[:2], dtype=dtype)
        self.size_A = point_AFV.new_ones(len(point_AFV))
        self.newest = HISTORY - 1

    def keep(self, stays_A: Tensor) -> None:
        self.step_MAFV, self.change_MAFV = self.step_MAFV[:, stays_A], self.change_MAFV[:, stays_A]
        self.inverse_MA, self.size_A = self.inverse_MA[:, stays_A], self.size_A[stays_A]

    def forget(self, which_A: Tensor) -> None:
        self.inverse_MA[:, which_A] = 0.0
        self.size_A[which_A] = 1.0

    def add(self, which_A: Tensor, step_AFV: Tensor, change_AFV: Tensor, inverse_A1V: Tensor) -> None:
        curvature_A, square_A = _dot(step_AFV, change_AFV), _dot(change_AFV, inverse_A1V * change_AFV)
        # rounding can make a tiny curvature negative; such a pair would spoil the inverse Hessian
        which_A = which_A & (curvature_A > 0) & (square_A > 0)
        self.newest = (self.newest + 1) % HISTORY
        self.step_MAFV[self.newest], self.change_MAFV[self.newest] = step_AFV, change_AFV
        self.inverse_MA[self.newest] = torch.where(which_A, 1 / curvature_A, 0.0)
        # s'y / y'Dy fits the overall size of the diagonal estimate to the last step
        self.size_A = torch.where(which_A, curvature_A / square_A, self.size_A)

    def apply(self, gradient_AFV: Tensor, inverse_A1V: Tensor) -> Tensor:
        """Inverse Hessian times the gradient: the two-loop recursion around the scaled diagonal estimate."""
        result_AFV = gradient_AFV.to(self.step_MAFV.dtype, copy=True)
        weight_MA = torch.zeros_like(self.inverse_MA)
        places = [(self.newest - back) % HISTORY for back in range(HISTORY)]
        for m in places:
            weight_MA[m] = self.inverse_MA[m] * _dot(self.step_MAFV[m], result_AFV)
            result_AFV.addcmul_(weight_MA[m][:, None, None], self.change_MAFV[m], value=-1)
        result_AFV *= inverse_A1V * self.size_A[:, None, None]
        for m in reversed(places):
            back_A = self.inverse_MA[m] * _dot(self.change_MAFV[m], result_AFV)
            result_AFV.addcmul_((weight_MA[m] - back_A)[:, None, None], self.step_MAFV[m])
        return result_AFV.double()


def _dot(a_AFV: Tensor, b_AFV: Tensor) -> Tensor:
    return torch.linalg.vecdot(a_AFV[:, 0], b_AFV[:, -1])
