"""Many smooth convex problems minimised together by L-BFGS, each with its own line search.

Letters beside the package's alphabet: P problems, A problems in the batch, V variables of one problem.
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

# (point_AV, problem_A) -> value_A, gradient_AV, inverse_AV: the last is the inverse of an estimate of the Hessian's
# diagonal at the point. problem_A holds the ascending numbers of the problems in the batch.
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Minimum:
    """Where the minimisation of each problem ended.

    Attributes:
        point_PV: The points reached, float64.
        value_P: The objectives there, float64.
        gradient_PV: The gradients there, float64.
        iterations: Evaluations of the batch until the last problem stopped.
        converged_P: Whether the expected further decrease is within the tolerance.
    """

    point_PV: Tensor
    value_P: Tensor
    gradient_PV: Tensor
    iterations: int
    converged_P: Tensor


@dataclass(slots=True)
class _Running:
    """The state of the problems in the batch, one row each."""

    problem_A: Tensor
    open_A: Tensor
    point_AV: Tensor
    value_A: Tensor
    gradient_AV: Tensor
    inverse_AV: Tensor
    direction_AV: Tensor
    step_A: Tensor
    restarted_A: Tensor

    def keep(self, stays_A: Tensor) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name)[stays_A])


@torch.no_grad()
def minimize_together(
    objective: Objective,
    start_PV: Tensor,
    *,
    max_iter: int,
    tolerance: float,
    noise: float,
    history_dtype: torch.dtype = torch.float64,
) -> Minimum:
    """Minimise P smooth convex functions of V variables each.

    Every pass evaluates one trial point of every problem. A problem whose trial is good enough takes it and turns to
    its next direction; another shortens its step and tries again in the next pass. So no problem waits for another's
    line search. Problems that are done leave the batch, in groups, since leaving copies what stays.

    A problem is done when the decrease that a quadratic model still expects is at most `tolerance` times its
    objective, whatever the scale of objective and variables. Two models are asked, the larger answer counts: that of
    L-BFGS, and that of the estimated diagonal.

    Args:
        objective: Values, gradients and inverse diagonals at given points, float64.
        start_PV: Starting points, float64.
        max_iter: Most evaluations.
        tolerance: Relative decrease worth going on for. The relative distance from the minimum that is left was 1 to
            20 times this for logistic regressions.
        noise: Relative rounding error of an objective; a rise below it does not reject a step that flattens the slope.
        history_dtype: Precision of the history and of the directions made from it; it moves most of the memory.

    Returns:
        The points reached. A problem that ran out of evaluations, or whose steps no longer help, is not converged.

    Cost: one evaluation per pass, and a history of 2 x 10 x P x V.
    Reference: Liu, Nocedal 1989, Math. Programming 45. Approximate Wolfe condition: Hager, Zhang 2005, SIAM J. Optim.
    """
    problem_P = torch.arange(len(start_PV), device=start_PV.device)
    value_P, gradient_PV, inverse_PV = objective(start_PV, problem_P)
    now = _Running(
        problem_P, torch.ones_like(value_P, dtype=torch.bool), start_PV, value_P, gradient_PV, inverse_PV,
        -inverse_PV * gradient_PV, torch.ones_like(value_P), torch.zeros_like(value_P, dtype=torch.bool),
    )  # fmt: skip
    history = _History(start_PV, history_dtype)
    end = Minimum(
        point_PV=start_PV.clone(), value_P=value_P.clone(), gradient_PV=gradient_PV.clone(), iterations=0,
        converged_P=torch.zeros_like(now.open_A),
    )  # fmt: skip
    passes = 1
    while True:
        slope_A = _dot(now.gradient_AV, now.direction_AV)
        expected_A = torch.maximum(-slope_A, _dot(now.gradient_AV, now.inverse_AV * now.gradient_AV)) / 2
        done_A = expected_A <= tolerance * now.value_A.abs()
        stuck_A = (now.step_A < SMALLEST_STEP) & ~done_A
        leaves_A = now.open_A & (done_A | (stuck_A & now.restarted_A) | (passes >= max_iter))
        gone_L = now.problem_A[leaves_A]
        if len(gone_L):
            end.point_PV[gone_L] = now.point_AV[leaves_A]
            end.value_P[gone_L] = now.value_A[leaves_A]
            end.gradient_PV[gone_L] = now.gradient_AV[leaves_A]
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
            now.direction_AV[stuck_A] = -(now.inverse_AV * now.gradient_AV)[stuck_A]
            now.step_A[stuck_A] = 1.0
            now.restarted_A |= stuck_A
        _advance(now, history, objective, noise=noise)
        passes += 1
    return Minimum(
        point_PV=end.point_PV, value_P=end.value_P, gradient_PV=end.gradient_PV, iterations=passes,
        converged_P=end.converged_P,
    )  # fmt: skip


def _advance(now: _Running, history: _History, objective: Objective, *, noise: float) -> None:
    """Try one step of every problem in the batch: take it, or shorten it for the next pass."""
    slope_A = _dot(now.gradient_AV, now.direction_AV)
    trial_AV = torch.addcmul(now.point_AV, now.step_A[:, None], now.direction_AV)
    value_A, gradient_AV, inverse_AV = objective(trial_AV, now.problem_A)
    lower_A = value_A <= now.value_A + ARMIJO * now.step_A * slope_A
    # near the minimum the values' rounding hides the decrease; there the slope decides
    flatter_A = _dot(gradient_AV, now.direction_AV) <= (2 * ARMIJO - 1) * slope_A
    good_A = lower_A | ((value_A <= now.value_A + noise * now.value_A.abs()) & flatter_A)
    history.add(good_A, trial_AV - now.point_AV, gradient_AV - now.gradient_AV, inverse_AV)

    # the minimum of the parabola through the old value, its slope and the trial's value
    parabola_A = -slope_A * now.step_A.square() / (2 * (value_A - now.value_A - slope_A * now.step_A))
    shorter_A = torch.where(parabola_A.isfinite(), parabola_A, 0.0).clamp(0.1 * now.step_A, 0.5 * now.step_A)
    now.step_A = torch.where(good_A, 1.0, shorter_A)
    now.restarted_A = now.restarted_A & ~good_A
    good_A1 = good_A[:, None]
    now.point_AV = torch.where(good_A1, trial_AV, now.point_AV)
    now.value_A = torch.where(good_A, value_A, now.value_A)
    now.gradient_AV = torch.where(good_A1, gradient_AV, now.gradient_AV)
    now.inverse_AV = torch.where(good_A1, inverse_AV, now.inverse_AV)
    now.direction_AV = torch.where(good_A1, -history.apply(now.gradient_AV, now.inverse_AV), now.direction_AV)


class _History:
    """The last steps and gradient changes of each problem, in a ring that all problems turn together.

    A pass in which a problem took no step leaves a place without effect. Letter M: places.
    """

    def __init__(self, point_AV: Tensor, dtype: torch.dtype) -> None:
        shape = (HISTORY, *point_AV.shape)
        self.step_MAV, self.change_MAV = point_AV.new_zeros(shape, dtype=dtype), point_AV.new_zeros(shape, dtype=dtype)
        self.inverse_MA = point_AV.new_zeros(shape[:2], dtype=dtype)
        self.size_A = point_AV.new_ones(len(point_AV))
        self.newest = HISTORY - 1

    def keep(self, stays_A: Tensor) -> None:
        self.step_MAV, self.change_MAV = self.step_MAV[:, stays_A], self.change_MAV[:, stays_A]
        self.inverse_MA, self.size_A = self.inverse_MA[:, stays_A], self.size_A[stays_A]

    def forget(self, which_A: Tensor) -> None:
        self.inverse_MA[:, which_A] = 0.0
        self.size_A[which_A] = 1.0

    def add(self, which_A: Tensor, step_AV: Tensor, change_AV: Tensor, inverse_AV: Tensor) -> None:
        curvature_A, square_A = _dot(step_AV, change_AV), _dot(change_AV, inverse_AV * change_AV)
        # rounding can make a tiny curvature negative; such a pair would spoil the inverse Hessian
        which_A = which_A & (curvature_A > 0) & (square_A > 0)
        self.newest = (self.newest + 1) % HISTORY
        self.step_MAV[self.newest], self.change_MAV[self.newest] = step_AV, change_AV
        self.inverse_MA[self.newest] = torch.where(which_A, 1 / curvature_A, 0.0)
        # s'y / y'Dy fits the overall size of the diagonal estimate to the last step
        self.size_A = torch.where(which_A, curvature_A / square_A, self.size_A)

    def apply(self, gradient_AV: Tensor, inverse_AV: Tensor) -> Tensor:
        """Inverse Hessian times the gradient: the two-loop recursion around the scaled diagonal estimate."""
        result_AV = gradient_AV.to(self.step_MAV.dtype, copy=True)
        weight_MA = torch.zeros_like(self.inverse_MA)
        places = [(self.newest - back) % HISTORY for back in range(HISTORY)]
        for m in places:
            weight_MA[m] = self.inverse_MA[m] * _dot(self.step_MAV[m], result_AV)
            result_AV.addcmul_(weight_MA[m][:, None], self.change_MAV[m], value=-1)
        result_AV *= inverse_AV * self.size_A[:, None]
        for m in reversed(places):
            back_A = self.inverse_MA[m] * _dot(self.change_MAV[m], result_AV)
            result_AV.addcmul_((weight_MA[m] - back_A)[:, None], self.step_MAV[m])
        return result_AV.double()


def _dot(a_AV: Tensor, b_AV: Tensor) -> Tensor:
    return torch.linalg.vecdot(a_AV, b_AV)
