"""Effective rank against closed forms and numpy, and the loss against its running median."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretext.training.health import WINDOW, effective_rank, loss_over_median


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("shape", [(40, 7), (7, 40)])
def test_equally_strong_directions_are_counted(count, shape):
    left, _ = torch.linalg.qr(torch.randn(shape[0], 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    right, _ = torch.linalg.qr(
        torch.randn(shape[1], 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    )
    matrix = 1e-6 * left[:, :count] @ right[:, :count].T
    assert effective_rank(matrix) == pytest.approx(count, rel=1e-6)


def test_it_is_the_exponential_of_the_entropy_of_singular_values():
    matrix = np.random.default_rng(0).normal(size=(60, 12)) * np.geomspace(1, 1e-3, 12) + 0.3
    singular = np.linalg.svd(matrix, compute_uv=False)
    p = singular / singular.sum()
    want = np.exp(-(p * np.log(p)).sum())
    assert effective_rank(torch.from_numpy(matrix)) == pytest.approx(want, rel=1e-6)
    assert effective_rank(torch.from_numpy(1e20 * matrix).float()) == pytest.approx(want, rel=1e-3)
    assert effective_rank(torch.from_numpy(matrix).T) == pytest.approx(want, rel=1e-6)


def test_features_that_are_all_alike_have_one_direction_and_zeros_or_no_numbers_none():
    assert effective_rank(torch.randn(5).expand(30, 5)) == pytest.approx(1)
    assert effective_rank(torch.zeros(3, 4)) is None
    assert effective_rank(torch.full((3, 4), torch.nan)) is None
    assert effective_rank(torch.zeros(0, 4)) is None


def test_a_loss_is_compared_with_the_last_rows_of_its_kind():
    rows = [{"kind": kind, "train/loss": value} for value in (9.0, 4.0, 2.0, 1.0) for kind in ("step", "epoch")]
    assert loss_over_median(rows, "step", 6.0) == 2.0
    assert loss_over_median(rows[:4], "step", 6.0) is None, "too few"
    many = [{"kind": "step", "train/loss": 1e9}] * 50 + [{"kind": "step", "train/loss": 2.0}] * WINDOW
    assert loss_over_median(many, "step", 3.0) == 1.5


def test_losses_that_are_absent_or_not_positive_give_no_ratio():
    rows = [{"kind": "step", "train/loss": value} for value in (None, 1.0, 2.0, 3.0)]
    assert loss_over_median(rows, "step", 4.0) == 2.0
    assert loss_over_median(rows, "step", None) is None
    assert loss_over_median([*rows, {"kind": "step", "train/loss": -1.0}], "step", 4.0) is None
