"""Pixelwise losses against NumPy. Run alone: pytest tests/unit/losses/test_pixel.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pretext.losses import BCELoss, L1Loss, MSELoss, bce, l1, mse
from pretext.losses.pixel import BCE_MARGIN

PAIRS = [(mse, MSELoss), (l1, L1Loss), (bce, BCELoss)]
FORMULAS = {
    mse: lambda y, x: np.mean((y - x) ** 2),
    l1: lambda y, x: np.mean(np.abs(y - x)),
    bce: lambda y, x: -np.mean(x * np.log(y) + (1 - x) * np.log(1 - y)),
}
SHAPES = [(1, 1, 1, 1), (2, 3, 5, 4), (4, 1, 7, 9)]


def images(shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=generator, dtype=torch.float64).mul(0.96).add(0.02).to(dtype) for _ in range(2)]


@pytest.mark.parametrize(("function", "module"), PAIRS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_value_is_the_mean_over_everything(function, module, shape, dtype, rtol):
    prediction, target = images(shape, dtype)
    expected = FORMULAS[function](prediction.double().numpy(), target.double().numpy())
    for value in (function(prediction, target), module()(prediction, target)):
        assert value.shape == ()
        assert value.dtype == dtype
        assert value.item() == pytest.approx(expected, rel=rtol)


@pytest.mark.parametrize(("function", "module"), PAIRS)
def test_gradcheck(function, module):
    prediction, target = images((2, 2, 3, 4))
    assert torch.autograd.gradcheck(lambda y: function(y, target), (prediction.requires_grad_(),))


@pytest.mark.parametrize(("function", "module"), PAIRS)
def test_full_precision_under_autocast(function, module):
    prediction, target = images((2, 3, 4, 4), torch.float32)
    prediction = prediction.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = function(prediction, target)
    value.backward()
    assert value.dtype == torch.float32
    assert prediction.grad.dtype == torch.bfloat16
    expected = FORMULAS[function](prediction.detach().double().numpy(), target.double().numpy())
    assert value.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("function", "module"), PAIRS)
def test_shapes_must_agree(function, module):
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\) and \(1, 3, 4, 5\)"):
        function(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 5))


@pytest.mark.parametrize("function", [mse, l1])
def test_zero_only_for_equal_images(function):
    prediction, target = images((1, 3, 4, 4))
    assert function(target, target).item() == 0
    assert function(prediction, target).item() > 0


def test_bce_floor_is_the_mean_entropy_of_the_target():
    _, target = images((2, 3, 8, 8))
    x = target.numpy()
    entropy = -np.mean(x * np.log(x) + (1 - x) * np.log(1 - x))
    assert bce(target, target).item() == pytest.approx(entropy, rel=1e-9)
    assert bce(torch.full_like(target, 0.5), torch.full_like(target, 0.5)).item() == pytest.approx(math.log(2))
    for step in (-0.01, 0.01):
        assert bce(target + step, target) > bce(target, target)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bce_of_saturated_predictions_is_finite_and_still_learns(dtype):
    prediction = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=dtype).view(1, 1, 2, 2).requires_grad_()
    target = torch.tensor([1.0, 0.0, 0.0, 1.0]).view(1, 1, 2, 2)
    value = bce(prediction, target)
    value.backward()
    assert value.item() == pytest.approx(-0.5 * math.log(BCE_MARGIN), rel=1e-2)
    wrong_up, wrong_down, right_zero, right_one = (4 * prediction.grad.float()).flatten().tolist()
    assert wrong_up == pytest.approx(-1 / BCE_MARGIN, rel=0.05)  # 1 - 1e-6 is a rounded number in single precision
    assert wrong_down == pytest.approx(1 / BCE_MARGIN, rel=0.05)
    assert right_zero == pytest.approx(1, rel=0.05)
    assert right_one == pytest.approx(-1, rel=0.05)


def test_bce_outside_its_range_counts_as_the_end_of_the_range():
    target = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    assert bce(torch.tensor([5.0, -3.0]).view(1, 1, 1, 2), target).item() == pytest.approx(
        -math.log(BCE_MARGIN), rel=1e-2
    )


@pytest.mark.parametrize("function", [mse, l1, bce])
def test_a_broken_prediction_gives_nan_not_an_error(function):
    prediction, target = images((1, 1, 2, 2))
    prediction[0, 0, 0, 0] = float("nan")
    assert math.isnan(function(prediction, target).item())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_squared_error_s_gradients_are_right_to_second_order_and_keep_the_layout(layout):
    generator = torch.Generator().manual_seed(0)
    x, y = (part.contiguous(memory_format=layout).requires_grad_()
            for part in torch.rand(2, 2, 3, 4, 5, generator=generator, dtype=torch.float64))  # fmt: skip
    assert torch.autograd.gradcheck(mse, (x, y))
    assert torch.autograd.gradgradcheck(mse, (x, y))
    (gradient,) = torch.autograd.grad(mse(x, y), x)
    assert gradient.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 4), (2, 3, 16, 16), (2, 1, 1, 1)])
def test_the_squared_error_is_torch_s_in_every_shape(shape):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, *shape, generator=generator)
    x.requires_grad_()
    found, expected = mse(x, y), torch.nn.functional.mse_loss(x, y)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(loss, x)[0] for loss in (found, expected)), rtol=1e-6, atol=0)
