"""Kernels, blurs and bases against SciPy. Run alone: pytest tests/unit/losses/test_smoothing.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from pretext.losses import blur, effective_sigma, gaussian_kernel
from pretext.losses.smoothing import RELATIVE_FLOOR, blur_matrix, norm_basis

SCIPY_MODE = {"zero": "constant", "symmetric": "reflect", "replicate": "nearest"}
CPU = torch.device("cpu")


def scipy_blur(image_BCHW, sigma, truncate, padding):
    return gaussian_filter(image_BCHW, (0, 0, sigma, sigma), mode=SCIPY_MODE[padding], truncate=truncate)


@pytest.mark.parametrize("sigma", [0.3, 1, 2.5, 3, 6])
@pytest.mark.parametrize("truncate", [0.5, 1.0, 3.0, 4.0])
def test_kernel_is_a_symmetric_average(sigma, truncate):
    kernel = gaussian_kernel(sigma, truncate)
    assert len(kernel) == 2 * int(truncate * sigma + 0.5) + 1
    assert (kernel > 0).all()
    assert kernel.sum() == pytest.approx(1, rel=1e-15)
    np.testing.assert_array_equal(kernel, kernel[::-1])
    assert kernel.argmax() == len(kernel) // 2


def test_sigma_zero_is_the_identity_kernel():
    np.testing.assert_array_equal(gaussian_kernel(0.0), [1.0])
    np.testing.assert_array_equal(gaussian_kernel(0.1, 4.0), [1.0])
    assert effective_sigma(0.0) == 0


@pytest.mark.parametrize("sigma", [3, 4, 5, 6])
def test_cut_at_one_sigma_the_kernel_is_2_sigma_plus_1_wide(sigma):
    assert len(gaussian_kernel(sigma, 1.0)) == 2 * sigma + 1


def test_mass_inside_one_sigma_at_sigma_3():
    whole, offset = gaussian_kernel(3, 20.0), np.arange(-60, 61)
    assert whole[abs(offset) <= 3].sum() ** 2 == pytest.approx(0.576, abs=5e-4)


@pytest.mark.parametrize(("sigma", "expected"), [(3, 1.835), (4, 2.378), (5, 2.920), (6, 3.461)])
def test_effective_sigma_cut_at_one(sigma, expected):
    assert effective_sigma(sigma, 1.0) == pytest.approx(expected, abs=5e-4)


def test_effective_sigma_of_a_whole_gaussian_is_sigma():
    assert effective_sigma(3, 10.0) == pytest.approx(3, rel=1e-9)
    assert effective_sigma(3, 4.0) == pytest.approx(2.999, abs=5e-4)


@pytest.mark.parametrize("padding", SCIPY_MODE)
@pytest.mark.parametrize(("sigma", "truncate"), [(0.0, 4.0), (1.0, 1.0), (3.0, 1.0), (2.5, 4.0), (6.0, 4.0)])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (24, 31)])  # the kernel of 49 taps is wider than all of them
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_blur_is_scipy_s(padding, sigma, truncate, size, dtype, tolerance):
    image = np.random.default_rng(0).normal(size=(2, 3, *size))
    blurred = blur(torch.from_numpy(image).to(dtype), sigma, truncate=truncate, padding=padding)
    assert blurred.dtype == dtype
    np.testing.assert_allclose(blurred.numpy(), scipy_blur(image, sigma, truncate, padding), atol=tolerance)


def test_blur_keeps_single_precision_under_autocast():
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = blur(image, 2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(blur(image, 2.0), plain, rtol=0, atol=0)


def test_blur_refuses_what_is_not_a_float_batch():
    with pytest.raises(ValueError, match=r"float \(B, C, H, W\), got torch.float32 \(3, 4, 4\)"):
        blur(torch.zeros(3, 4, 4), 1.0)
    with pytest.raises(ValueError, match=r"got torch\.uint8"):
        blur(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 1.0)


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf")])
def test_sigma_out_of_range(sigma):
    with pytest.raises(ValueError, match=f"sigma must be finite and >= 0, got {sigma}"):
        gaussian_kernel(sigma)


@pytest.mark.parametrize("truncate", [0.0, -2.0, float("inf")])
def test_truncate_out_of_range(truncate):
    with pytest.raises(ValueError, match=f"truncate must be finite and > 0, got {truncate}"):
        effective_sigma(1.0, truncate)


def test_unknown_padding_lists_the_known():
    with pytest.raises(ValueError, match="zero, symmetric, replicate, got 'mirror'"):
        blur(torch.zeros(1, 1, 4, 4), 1.0, padding="mirror")


@pytest.mark.parametrize("padding", SCIPY_MODE)
@pytest.mark.parametrize(("sigma", "truncate"), [(0.0, 4.0), (3.0, 1.0), (4.0, 4.0), (9.0, 4.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_basis_has_the_norm_of_the_blur(padding, sigma, truncate, dtype):
    arguments = (40, sigma, truncate, padding, torch.float64, CPU)
    matrix = blur_matrix(*arguments)
    basis = norm_basis(*arguments[:4], dtype, CPU).double()
    gap = torch.linalg.matrix_norm(matrix.T @ matrix - basis.T @ basis, ord=2)
    assert gap <= RELATIVE_FLOOR[dtype] ** 2 + {torch.float32: 1e-6, torch.float64: 1e-14}[dtype]


def test_a_wide_blur_needs_few_directions():
    assert norm_basis(96, 4.0, 4.0, "symmetric", torch.float32, CPU).shape == (33, 96)


@pytest.mark.parametrize("sigma", [1, 2, 3, 4, 5, 6])
def test_operator_norms_cut_at_one_sigma(sigma):
    norm = {
        padding: torch.linalg.matrix_norm(blur_matrix(96, sigma, 1.0, padding, torch.float64, CPU), ord=2).item()
        for padding in SCIPY_MODE
    }
    assert norm["zero"] < 1
    assert norm["symmetric"] == pytest.approx(1, rel=1e-12)
    if sigma in (3, 6):
        assert norm["replicate"] == pytest.approx({3: 1.0073, 6: 1.0624}[sigma], abs=5e-5)


def test_cached_matrices_made_under_inference_mode_serve_training():
    with torch.inference_mode():
        blur(torch.ones(1, 1, 7, 9), 1.25)
    image = torch.ones(1, 1, 7, 9, requires_grad=True)
    blur(image, 1.25).sum().backward()
    torch.testing.assert_close(image.grad, torch.ones_like(image))
