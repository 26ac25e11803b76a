"""Batched L-BFGS: known minima, independence of the problems, and the ways a problem can end."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pretext.tasks.lbfgs import minimize_together


def quadratics(hessian_PVV: Tensor, minimum_PV: Tensor, floor: float = 1.0):
    """0.5 (x - m)' H (x - m) + floor for each problem, its true diagonal as the estimate."""

    def objective(point_A1V: Tensor, problem_A: Tensor):
        away_AV = point_A1V[:, 0] - minimum_PV[problem_A]
        gradient_AV = torch.einsum("avw,aw->av", hessian_PVV[problem_A], away_AV)
        inverse_AV = 1 / hessian_PVV[problem_A].diagonal(dim1=1, dim2=2)
        return floor + (away_AV * gradient_AV).sum(dim=1) / 2, gradient_AV[:, None], inverse_AV[:, None]

    return objective


def random_quadratics(num: int, size: int, *, condition: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(num, size, size, generator=generator, dtype=torch.float64)).Q
    spectrum = torch.logspace(0, torch.tensor(condition).log10().item(), size, dtype=torch.float64)
    hessian = basis @ (spectrum[:, None] * basis.transpose(1, 2))
    return hessian, torch.randn(num, size, generator=generator, dtype=torch.float64)


def test_finds_the_minima_of_quadratics() -> None:
    hessian, minimum = random_quadratics(7, 12, condition=1e4)
    end = minimize_together(
        quadratics(hessian, minimum), torch.zeros_like(minimum)[:, None], max_iter=500, tolerance=1e-14, noise=1e-15
    )
    assert end.converged_P.all()
    torch.testing.assert_close(end.value_P, torch.ones(7, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(end.point_PFV[:, 0], minimum, rtol=0, atol=1e-5)
    assert end.gradient_PFV.abs().max() < 1e-3


def test_a_true_diagonal_takes_one_newton_step() -> None:
    hessian = torch.diag(torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64))[None]
    minimum = torch.tensor([[3.0, -2.0, 1.0]], dtype=torch.float64)
    end = minimize_together(
        quadratics(hessian, minimum), torch.zeros_like(minimum)[:, None], max_iter=50, tolerance=1e-12, noise=1e-15
    )
    torch.testing.assert_close(end.point_PFV[:, 0], minimum)
    assert end.iterations == 2


def test_each_problem_ends_as_if_alone() -> None:
    hessian, minimum = random_quadratics(5, 6, condition=1e3)
    hessian[0] *= 1e-3
    together = minimize_together(
        quadratics(hessian, minimum), torch.zeros_like(minimum)[:, None], max_iter=200, tolerance=1e-8, noise=1e-15
    )
    passes = []
    for p in range(5):
        alone = minimize_together(
            quadratics(hessian[p : p + 1], minimum[p : p + 1]), torch.zeros(1, 1, 6, dtype=torch.float64),
            max_iter=200, tolerance=1e-8, noise=1e-15,
        )  # fmt: skip
        torch.testing.assert_close(together.point_PFV[p], alone.point_PFV[0], rtol=1e-9, atol=1e-9)
        passes.append(alone.iterations)
    assert together.iterations == max(passes)
    assert min(passes) < max(passes)


def test_problems_that_are_done_leave_the_batch() -> None:
    hessian, minimum = random_quadratics(10, 8, condition=1e4)
    minimum[:9] = 0.0  # these start at their minimum
    sizes = []
    objective = quadratics(hessian, minimum)

    def counted(point_A1V: Tensor, problem_A: Tensor):
        sizes.append(problem_A.tolist())
        return objective(point_A1V, problem_A)

    end = minimize_together(counted, torch.zeros_like(minimum)[:, None], max_iter=200, tolerance=1e-10, noise=1e-15)
    assert end.converged_P.all()
    assert sizes[0] == list(range(10))
    assert all(size == [9] for size in sizes[1:])


def test_backtracks_from_steps_that_overshoot_or_leave_the_domain() -> None:
    # x - log x, infinite at x <= 0; the claimed curvature is far too small, so the first steps are far too long
    def barrier(point_A1V: Tensor, problem_A: Tensor):
        value_A = torch.where(point_A1V > 0, point_A1V - point_A1V.log(), torch.inf).sum(dim=(1, 2))
        return value_A, 1 - 1 / point_A1V, torch.full_like(point_A1V, 100.0)

    start = torch.tensor([[[5.0, 2.0]], [[0.01, 30.0]]], dtype=torch.float64)
    end = minimize_together(barrier, start, max_iter=200, tolerance=1e-12, noise=1e-15)
    assert end.converged_P.all()
    torch.testing.assert_close(end.point_PFV[:, 0], torch.ones(2, 2, dtype=torch.float64), rtol=1e-4, atol=0)


def test_running_out_of_passes_is_not_convergence() -> None:
    hessian, minimum = random_quadratics(3, 12, condition=1e6)
    end = minimize_together(
        quadratics(hessian, minimum), torch.zeros_like(minimum)[:, None], max_iter=4, tolerance=1e-14, noise=1e-15
    )
    assert end.iterations == 4
    assert not end.converged_P.any()
    assert (end.value_P < quadratics(hessian, minimum)(torch.zeros_like(minimum)[:, None], torch.arange(3))[0]).all()


def test_a_gradient_that_lies_is_given_up_without_convergence() -> None:
    def lying(point_A1V: Tensor, problem_A: Tensor):
        return 1 + point_A1V.square().sum(dim=(1, 2)), -2 * point_A1V, torch.ones_like(point_A1V)

    end = minimize_together(lying, torch.ones(1, 1, 3, dtype=torch.float64), max_iter=500, tolerance=1e-12, noise=0.0)
    assert end.iterations < 100
    assert not end.converged_P.any()
    assert end.value_P.item() == pytest.approx(4.0)


def test_a_history_in_float32_still_converges_in_float64() -> None:
    hessian, minimum = random_quadratics(4, 10, condition=1e4)
    end = minimize_together(
        quadratics(hessian, minimum), torch.zeros_like(minimum)[:, None], max_iter=500, tolerance=1e-13, noise=1e-15,
        history_dtype=torch.float32,
    )  # fmt: skip
    assert end.point_PFV[:, 0].dtype == torch.float64
    torch.testing.assert_close(end.point_PFV[:, 0], minimum, rtol=0, atol=1e-5)
