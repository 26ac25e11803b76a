"""Proximally sensitive error against SciPy, and its contract. Run alone: pytest tests/unit/losses/test_pse.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from pretext.losses import PSELoss, mse, pse

SCIPY_MODE = {"zero": "constant", "symmetric": "reflect", "replicate": "nearest"}
SLIDES = {"sigma": 3, "truncate": 1.0, "padding": "zero", "residual": "abs", "scale": "slides"}


def images(shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)]


def of_residual(residual_BCHW, **options):
    return pse(residual_BCHW, torch.zeros_like(residual_BCHW), **options).item()


def scipy_pse(prediction, target, *, sigma, truncate=4.0, padding="symmetric", residual="abs", scale="unit"):
    difference = prediction.double().numpy() - target.double().numpy()
    difference = np.abs(difference) if residual == "abs" else difference
    blurred = gaussian_filter(difference, (0, 0, sigma, sigma), mode=SCIPY_MODE[padding], truncate=truncate)
    return np.mean(blurred**2) / (9 if scale == "slides" else 1)


@pytest.mark.parametrize("padding", SCIPY_MODE)
@pytest.mark.parametrize("residual", ["abs", "signed"])
@pytest.mark.parametrize(("sigma", "truncate"), [(0.0, 4.0), (1.0, 1.0), (3.0, 1.0), (4.0, 4.0), (2.5, 3.0)])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 24, 31), (3, 2, 7, 40)])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-6), (torch.float64, 1e-9)])
def test_value_is_scipy_s(padding, residual, sigma, truncate, shape, dtype, rtol):
    prediction, target = images(shape, dtype)
    options = {"sigma": sigma, "truncate": truncate, "padding": padding, "residual": residual}
    value = pse(prediction, target, **options)
    assert value.shape == ()
    assert value.dtype == dtype
    assert value.item() == pytest.approx(scipy_pse(prediction, target, **options), rel=rtol)


@pytest.mark.parametrize("residual", ["abs", "signed"])
def test_value_at_full_size_on_any_memory_layout(residual):
    prediction, target = images((4, 3, 96, 96), torch.float32)
    expected = scipy_pse(prediction, target, sigma=4, residual=residual)
    strided = torch.zeros(4, 3, 96, 192)[..., ::2].copy_(prediction)
    for layout in (prediction, prediction.contiguous(memory_format=torch.channels_last), strided):
        assert pse(layout, target, residual=residual).item() == pytest.approx(expected, rel=1e-6)
        other = target.contiguous(memory_format=torch.channels_last)
        assert pse(layout, other, residual=residual).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("padding", SCIPY_MODE)
@pytest.mark.parametrize("residual", ["abs", "signed"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradcheck(padding, residual, layout):
    prediction, target = (image.contiguous(memory_format=layout) for image in images((2, 3, 5, 6)))
    options = {"sigma": 1.5, "truncate": 3.0, "padding": padding, "residual": residual}
    assert torch.autograd.gradcheck(lambda y, x: pse(y, x, **options), (prediction.requires_grad_(), target))


def test_gradient_reaches_the_target_too():
    prediction, target = (image.requires_grad_() for image in images((1, 3, 8, 8)))
    pse(prediction, target, residual="signed").backward()
    torch.testing.assert_close(prediction.grad, -target.grad)


@pytest.mark.parametrize("padding", SCIPY_MODE)
@pytest.mark.parametrize("sigma", [0.0, 0.1])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_one_tap_is_the_mean_squared_error(padding, sigma, dtype, rtol):
    prediction, target = images((2, 3, 9, 12), dtype)
    value = pse(prediction, target, sigma=sigma, padding=padding)
    assert value.item() == pytest.approx(mse(prediction, target).item(), rel=rtol)


@pytest.mark.parametrize("residual", ["abs", "signed"])
@pytest.mark.parametrize("factor", [-3.0, 0.5])
def test_homogeneous_of_degree_two(residual, factor):
    residual_BCHW = images((2, 3, 12, 12))[0] - 0.5
    expected = factor**2 * of_residual(residual_BCHW, residual=residual)
    assert of_residual(factor * residual_BCHW, residual=residual) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sigma", [1, 3, 6])
def test_the_public_implementation_is_a_ninth_of_the_unit_sum(sigma):
    prediction, target = images((2, 3, 20, 20))
    options = SLIDES | {"sigma": sigma}
    unit = pse(prediction, target, **(options | {"scale": "unit"})).item()
    assert pse(prediction, target, **options).item() == pytest.approx(unit / 9, rel=1e-15)


def test_the_public_implementation_pixel_by_pixel():
    prediction, target = images((2, 3, 8, 9))
    difference = (prediction - target).abs().numpy()
    tap = [math.exp(-0.5 * (offset / 3) ** 2) for offset in range(-3, 4)]
    block = np.array([[up * across for across in tap] for up in tap])
    block /= 3 * block.sum()  # a dense kernel over three channels, divided by the sum of its diagonal blocks
    total = 0.0
    for plane in difference.reshape(-1, 8, 9):
        for row in range(8):
            for column in range(9):
                inside = 0.0
                for up in range(-3, 4):
                    for across in range(-3, 4):
                        if 0 <= row + up < 8 and 0 <= column + across < 9:
                            inside += plane[row + up, column + across] * block[up + 3, across + 3]
                total += inside**2
    assert pse(prediction, target, **SLIDES).item() == pytest.approx(total / difference.size, rel=1e-9)


def test_channels_do_not_mix():
    prediction, target = images((2, 3, 10, 10))
    alone = [pse(prediction[:, [c]], target[:, [c]]).item() for c in range(3)]
    assert pse(prediction, target).item() == pytest.approx(np.mean(alone), rel=1e-9)


def test_full_precision_under_autocast():
    prediction, target = images((2, 3, 32, 32), torch.float32)
    prediction = prediction.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = pse(prediction, target)
    value.backward()
    assert value.dtype == torch.float32
    assert prediction.grad.dtype == torch.bfloat16
    assert value.item() == pytest.approx(scipy_pse(prediction.detach(), target, sigma=4), rel=1e-6)


def test_inference_first_then_training():
    prediction, target = images((1, 1, 11, 13), torch.float32)
    with torch.inference_mode():
        evaluated = pse(prediction, target, sigma=1.75)
    trained = pse(prediction.requires_grad_(), target, sigma=1.75)
    trained.backward()
    assert trained.item() == evaluated.item()
    assert prediction.grad.abs().sum() > 0


def test_compiles_without_a_graph_break():
    prediction, target = images((2, 3, 9, 8), torch.float32)
    loss = PSELoss(sigma=2)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    assert compiled(prediction, target).item() == loss(prediction, target).item()


def test_module_binds_the_options_and_has_no_state():
    prediction, target = images((2, 3, 20, 16))
    assert PSELoss()(prediction, target).item() == pse(prediction, target).item()
    loss = PSELoss(**SLIDES)
    assert loss(prediction, target).item() == pse(prediction, target, **SLIDES).item()
    assert not loss.state_dict()
    assert not list(loss.parameters())
    assert not list(loss.buffers())
    assert repr(loss) == "PSELoss(sigma=3, truncate=1.0, padding='zero', residual='abs', scale='slides')"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": -1.0}, "sigma must be finite and >= 0, got -1.0"),
        ({"truncate": 0.0}, "truncate must be finite and > 0, got 0.0"),
        ({"padding": "mirror"}, "padding must be one of zero, symmetric, replicate, got 'mirror'"),
        ({"residual": "squared"}, "residual must be one of abs, signed, got 'squared'"),
        ({"scale": "ninth"}, "scale must be one of unit, slides, got 'ninth'"),
    ],
)
def test_options_are_checked_when_used_and_when_bound(options, message):
    with pytest.raises(ValueError, match=message):
        PSELoss(**options)
    with pytest.raises(ValueError, match=message):
        pse(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), **options)


def test_tensors_are_checked():
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\) and \(1, 3, 4, 5\)"):
        pse(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
    with pytest.raises(ValueError, match=r"prediction must be \(B, C, H, W\), got \(3, 4, 4\)"):
        pse(torch.zeros(3, 4, 4), torch.zeros(3, 4, 4))
