"""Its baselines compute what the package computes, and its rows are complete."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from pretext.bench import loss
from pretext.bench.loss import check_alike, convolved_pse, measure
from pretext.losses import mse
from pretext.training.device import Compute

CPU = Compute(torch.device("cpu"), "fp32")


def pair(size=24):
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, 2, 3, size, size, generator=generator)
    return prediction.requires_grad_(), target


@pytest.mark.parametrize(
    ("sigma", "truncate", "padding", "mode"), [(2.0, 4.0, "symmetric", "reflect"), (3.0, 1.0, "zero", "constant")]
)
def test_the_convolution_is_scipy_s_gaussian_filter(sigma, truncate, padding, mode):
    prediction, target = pair()
    residual = (prediction - target).detach().abs().double().numpy()
    blurred = gaussian_filter(residual, (0, 0, sigma, sigma), truncate=truncate, mode=mode)
    found = convolved_pse(prediction, target, sigma=sigma, truncate=truncate, padding=padding)
    assert float(found.detach()) == pytest.approx(np.square(blurred).mean(), rel=1e-5)


def test_a_baseline_that_computes_something_else_is_found():
    prediction, target = pair()
    with pytest.raises(AssertionError):
        check_alike(mse, lambda p, t: 1.001 * mse(p, t), prediction, target)
    with pytest.raises(AssertionError):
        check_alike(mse, lambda p, t: mse(p.detach(), t) + 0 * p.sum(), prediction, target)


def test_rows_are_complete_and_the_perceptual_ones_have_a_goal(monkeypatch):
    monkeypatch.setattr(loss, "SIZE", 64)
    monkeypatch.setattr(loss, "BATCH", 2)
    monkeypatch.setattr(loss, "SECONDS", 0)
    monkeypatch.setattr(loss, "NETWORK_BATCH", {"cpu": 2})
    monkeypatch.setattr(loss, "NETWORKS", ("squeezenet1_1",))
    rows = list(measure(CPU))
    assert len({(row.what, row.against) for row in rows}) == len(rows) == 6
    assert {row.part for row in rows} == {"loss"}
    assert all(
        math.isfinite(value) and value > 0 for row in rows for value in (row.per_s, row.against_per_s, row.ratio)
    )
    assert [row.goal for row in rows] == [None] * 4 + [1.0, None]
    assert [row.bytes_each for row in rows] == [3 * 3 * 64 * 64 * 4] * 4 + [None] * 2
