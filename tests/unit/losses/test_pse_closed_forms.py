"""What proximally sensitive error costs by closed forms. Run alone: pytest tests/unit/losses/test_pse_closed_forms.py.

"Cut at one" is truncate=1.0: the kernel of 2 * sigma + 1 taps for which the constants below were derived.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from pretext.losses import gaussian_kernel, mse, pse
from pretext.losses.smoothing import blur_matrix

PADDINGS = ["zero", "symmetric", "replicate"]


def images(shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)]


def of_residual(residual_BCHW, **options):
    return pse(residual_BCHW, torch.zeros_like(residual_BCHW), **options).item()


def sum_of_squares(sigma, truncate=1.0):
    """Sum of the squared taps of the two-dimensional kernel."""
    return np.square(gaussian_kernel(sigma, truncate)).sum() ** 2


def delta(size=97):
    residual = torch.zeros(1, 1, size, size, dtype=torch.float64)
    residual[..., size // 2, size // 2] = 1
    return residual


def checkerboard(size=96):
    parity = torch.arange(size)[:, None] + torch.arange(size)
    return (1.0 - 2.0 * (parity % 2)).double().expand(1, 1, size, size)


@pytest.mark.parametrize("sigma", [3, 4, 5, 6])
@pytest.mark.parametrize("padding", ["symmetric", "replicate"])
def test_constant_residual_costs_its_squared_error(sigma, padding):
    residual = torch.full((1, 3, 96, 96), 0.3, dtype=torch.float64)
    assert of_residual(residual, sigma=sigma, truncate=1.0, padding=padding) == pytest.approx(0.09, rel=1e-12)


@pytest.mark.parametrize(("sigma", "share"), [(3, 0.947), (4, 0.931), (5, 0.916), (6, 0.900)])
def test_zero_padding_discounts_a_constant_residual(sigma, share):
    residual = torch.ones(1, 1, 96, 96, dtype=torch.float64)
    assert of_residual(residual, sigma=sigma, truncate=1.0, padding="zero") == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize(("sigma", "band"), [(3, 0.121), (6, 0.234)])
def test_share_of_the_picture_that_zero_padding_discounts(sigma, band):
    whole = blur_matrix(96, sigma, 1.0, "zero", torch.float64, torch.device("cpu")).sum(dim=1)
    discounted = torch.outer(whole, whole) < 1 - 1e-9
    assert discounted.double().mean().item() == pytest.approx(band, abs=5e-4)


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [(1, 0.125604), (2, 0.043311), (3, 0.0217985), (4, 0.013099), (5, 0.008734), (6, 0.006237)],
)
@pytest.mark.parametrize("residual", ["abs", "signed"])
def test_single_pixel_costs_the_squared_kernel(sigma, expected, residual):
    spike = delta()
    value = spike.numel() * of_residual(spike, sigma=sigma, truncate=1.0, residual=residual)
    assert value == pytest.approx(expected, abs=5e-7)
    assert value == pytest.approx(sum_of_squares(sigma), rel=1e-9)


def test_checkerboard_vanishes_signed_and_stays_absolute():
    board = checkerboard()
    assert of_residual(board, sigma=3, truncate=1.0) == pytest.approx(1, rel=1e-12)
    alternating = np.sum(gaussian_kernel(3, 1.0) * (-1.0) ** np.arange(7)) ** 4
    assert alternating == pytest.approx(6e-5, rel=0.02)
    matrix = blur_matrix(192, 3, 1.0, "zero", torch.float64, torch.device("cpu"))
    interior = (matrix @ checkerboard(192) @ matrix.T)[..., 3:-3, 3:-3]
    assert interior.square().mean().item() == pytest.approx(alternating, rel=1e-9)
    # what the border adds is small beside the squared error, however it is padded
    for padding in PADDINGS:
        assert of_residual(board, sigma=3, truncate=1.0, padding=padding, residual="signed") < 3e-3


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("sigma", [1, 3, 6])
def test_absolute_never_costs_less_than_signed(padding, sigma):
    for seed in range(5):
        residual = images((2, 3, 16, 16), seed=seed)[0] - 0.4
        options = {"sigma": sigma, "padding": padding}
        assert of_residual(residual, residual="abs", **options) > of_residual(residual, residual="signed", **options)
        one_sign = residual.abs()
        assert of_residual(one_sign, residual="abs", **options) == of_residual(one_sign, residual="signed", **options)


@pytest.mark.parametrize("padding", ["zero", "symmetric"])
@pytest.mark.parametrize("residual", ["abs", "signed"])
@pytest.mark.parametrize(("sigma", "truncate"), [(1, 1.0), (3, 1.0), (4, 4.0), (9, 4.0)])
def test_never_exceeds_the_squared_error(padding, residual, sigma, truncate):
    cases = [images((1, 3, 16, 16), seed=seed)[0] - 0.5 for seed in range(5)]
    cases += [torch.ones(1, 1, 16, 16, dtype=torch.float64), checkerboard(16)]
    cases += [torch.linspace(0, 1, 16, dtype=torch.float64).pow(4).expand(1, 1, 16, 16)]
    for case in cases:
        value = of_residual(case, sigma=sigma, truncate=truncate, padding=padding, residual=residual)
        assert 0 <= value <= case.square().mean().item() * (1 + 1e-12)


def test_replicate_can_exceed_the_squared_error():
    matrix = blur_matrix(96, 6, 1.0, "replicate", torch.float64, torch.device("cpu"))
    worst = torch.linalg.svd(matrix).Vh[0]
    residual = torch.outer(worst, worst).expand(1, 1, 96, 96)
    ratio = of_residual(residual, sigma=6, truncate=1.0, padding="replicate") / residual.square().mean().item()
    assert ratio == pytest.approx(1.0624**4, rel=1e-3)


def test_signed_is_a_quadratic_form_with_gradient_of_the_double_blur():
    options = {"sigma": 3.0, "truncate": 8.0, "padding": "symmetric", "residual": "signed"}
    spike = delta().requires_grad_()
    pse(spike, torch.zeros_like(spike), **options).backward()
    wider = gaussian_filter(delta().numpy(), (0, 0, 3 * math.sqrt(2), 3 * math.sqrt(2)), truncate=8.0)
    np.testing.assert_allclose(spike.grad.numpy() * spike.numel() / 2, wider, atol=1e-12)


def test_signed_equals_its_spectrum():
    size = 96
    residual = torch.zeros(1, 1, size, size, dtype=torch.float64)
    residual[..., 24:72, 24:72] = images((1, 1, 48, 48))[0] - 0.5  # far enough from the border to be on a torus
    kernel = np.zeros((size, size))
    taps = gaussian_kernel(3, 4.0)
    kernel[:25, :25] = np.outer(taps, taps)
    spectrum = np.abs(np.fft.fft2(kernel) * np.fft.fft2(residual[0, 0].numpy())) ** 2
    value = of_residual(residual, sigma=3, residual="signed")
    assert value == pytest.approx(spectrum.sum() / size**4, rel=1e-9)


def test_white_noise_constants_in_the_interior():
    squares = sum_of_squares(3)
    assert squares == pytest.approx(0.0218, abs=5e-5)
    absolute = (1 - 2 / math.pi) * squares + 2 / math.pi
    assert absolute == pytest.approx(0.6445, abs=5e-5)
    noise = torch.randn(64, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    options = {"sigma": 3, "truncate": 1.0, "padding": "symmetric"}
    # neighbours of a blurred picture are alike: 1.8 million pixels are some 20 thousand draws, 1 per cent of spread
    matrix = blur_matrix(96, 3, 1.0, "symmetric", torch.float64, torch.device("cpu"))
    squares = (matrix.square().sum().item() / 96) ** 2
    absolute = (1 - 2 / math.pi) * squares + 2 / math.pi
    assert of_residual(noise, residual="signed", **options) == pytest.approx(squares, rel=0.03)
    assert of_residual(noise, residual="abs", **options) == pytest.approx(absolute, rel=5e-3)
    inside = noise[:, :, 8:-8, 8:-8].double().numpy()
    blurred = gaussian_filter(inside, (0, 0, 3, 3), truncate=1.0)[:, :, 3:-3, 3:-3]
    assert np.mean(blurred**2) == pytest.approx(0.0218, rel=0.03)
    blurred = gaussian_filter(np.abs(inside), (0, 0, 3, 3), truncate=1.0)[:, :, 3:-3, 3:-3]
    assert np.mean(blurred**2) == pytest.approx(0.6445, rel=5e-3)


@pytest.mark.parametrize("residual", ["abs", "signed"])
def test_sunglasses_cost_more_than_noise_of_the_same_energy(residual):
    side, size, count = 24, 96, 64
    sunglasses = torch.zeros(1, 1, size, size, dtype=torch.float64)
    sunglasses[..., 36 : 36 + side, 36 : 36 + side] = 1
    variance = side**2 / size**2
    noise = torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise *= math.sqrt(variance)
    options = {"sigma": 3, "truncate": 1.0, "padding": "zero", "residual": residual}
    ratio = of_residual(sunglasses, **options) / of_residual(noise, **options)

    matrix = blur_matrix(size, 3, 1.0, "zero", torch.float64, torch.device("cpu"))
    bar = matrix[:, 36 : 36 + side].sum(dim=1)
    block = (bar.square().sum() ** 2 / size**2).item()
    squares = (matrix.square().sum() / size).item() ** 2
    constant = (matrix.sum(dim=1).square().sum() / size).item() ** 2
    spread = squares if residual == "signed" else (1 - 2 / math.pi) * squares + 2 / math.pi * constant
    closed = block / (variance * spread)
    assert ratio == pytest.approx(closed, rel=0.01)
    assert ratio > {"abs": 1.3, "signed": 38}[residual]
    assert mse(sunglasses, 0 * sunglasses).item() == pytest.approx(mse(noise, 0 * noise).item(), rel=0.01)
