"""Distances between images against closed forms, NumPy and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

from pretext.losses import pse
from pretext.perceptual.distances import (
    feature_distance,
    lpips_distance,
    lpips_terms,
    ms_ssim_distance,
    ssim_distance,
    unit_features,
)
from pretext.perceptual.metrics import l1_distance, pse_distance

SHAPES = [(2, 5, 7, 6), (2, 8, 3, 3), (2, 4, 1, 1)]


def features(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in SHAPES]


def images(seed, size=32, batch=2):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_unit_features_have_length_one_and_the_same_direction():
    (feature, *_) = features(0)
    unit = unit_features(feature)
    expected = feature.numpy() / np.linalg.norm(feature.numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(unit.numpy(), expected, rtol=1e-6)


def test_where_all_channels_are_0_a_unit_feature_is_0_and_its_gradient_finite():
    feature = torch.zeros(1, 4, 2, 2, requires_grad=True)
    unit = unit_features(feature)
    assert not unit.any()
    unit.sum().backward()
    torch.testing.assert_close(feature.grad, torch.full_like(feature, 1e4))


def test_lpips_terms_add_up_to_twice_one_minus_the_cosine():
    x, y = features(0), features(1)
    for term_BC, x_BCHW, y_BCHW in zip(lpips_terms(x, y), x, y, strict=True):
        assert term_BC.shape == x_BCHW.shape[:2]
        expected = (2 - 2 * F.cosine_similarity(x_BCHW, y_BCHW)).mean((1, 2))
        torch.testing.assert_close(term_BC.sum(1), expected, rtol=1e-5, atol=1e-6)


def test_lpips_with_unit_weights_is_the_sum_over_layers_and_weights_are_linear():
    x, y = features(0), features(1)
    terms = lpips_terms(x, y)
    torch.testing.assert_close(lpips_distance(x, y, None), sum(term_BC.sum(1) for term_BC in terms))
    weights = [torch.arange(term_BC.shape[1]).float() for term_BC in terms]
    expected = sum(term_BC.numpy() @ weight_C.numpy() for term_BC, weight_C in zip(terms, weights, strict=True))
    np.testing.assert_allclose(lpips_distance(x, y, weights).numpy(), expected, rtol=1e-5)
    doubled = lpips_distance(x, y, [2 * weight_C for weight_C in weights])
    torch.testing.assert_close(doubled, 2 * lpips_distance(x, y, weights))


def test_feature_distance_is_the_weighted_sum_of_mean_squared_differences():
    x, y, weights = features(0), features(1), (0.5, 0, 2)
    expected = sum(w * ((a - b).numpy() ** 2).mean((1, 2, 3)) for w, a, b in zip(weights, x, y, strict=True))
    np.testing.assert_allclose(feature_distance(x, y, weights).numpy(), expected, rtol=1e-5)
    torch.testing.assert_close(feature_distance(x, y), feature_distance(x, y, (1, 1, 1)))


@pytest.mark.parametrize("compare", [feature_distance, lambda x, y: lpips_distance(x, y, None)])
def test_distances_are_0_on_equal_features_symmetric_and_in_float32_for_half_precision(compare):
    x, y = features(0, torch.float16), features(1, torch.float16)
    assert not compare(x, x).any()
    assert torch.equal(compare(x, y), compare(y, x))
    assert (compare(x, y) > 0).all()
    with torch.autocast("cpu", torch.bfloat16):
        found = compare(x, y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, compare([v.float() for v in x], [v.float() for v in y]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("compare", [feature_distance, lambda x, y: lpips_distance(x, y, None)])
def test_gradients_are_right_and_finite_on_equal_features(compare):
    x, y = features(0, torch.float64), features(1, torch.float64)
    assert torch.autograd.gradcheck(lambda *x: compare(x, y), [feature.requires_grad_() for feature in x])
    compare(x, [feature.detach().clone() for feature in x]).sum().backward()
    assert all(torch.isfinite(feature.grad).all() for feature in x)


def test_other_layers_and_other_numbers_of_weights_are_refused():
    x, y = features(0), features(1)
    with pytest.raises(ValueError, match="same layers"):
        feature_distance(x, y[:2])
    with pytest.raises(ValueError, match="same layers"):
        lpips_terms(x, y[::-1])
    with pytest.raises(ValueError, match="same layers"):
        feature_distance([], [])
    for weights in ((1, 1), (1, 1, -1), (1, 1, float("nan"))):
        with pytest.raises(ValueError, match="layer_weights must be 3 numbers >= 0"):
            feature_distance(x, y, weights)
    with pytest.raises(ValueError, match=r"\[5, 8, 4\] channels"):
        lpips_distance(x, y, [torch.ones(5), torch.ones(7), torch.ones(4)])


@pytest.mark.parametrize("size", [11, 40])
def test_ssim_is_scikit_image_s(size):
    x, y = images(0, size), images(1, size)
    y = 0.7 * x + 0.3 * y
    expected = [
        1 - structural_similarity(a.double().numpy(), b.double().numpy(), data_range=1, channel_axis=0,
                                  gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for a, b in zip(x, y, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(ssim_distance(x, y).numpy(), expected, atol=1e-5)


def test_of_plain_images_ssim_and_ms_ssim_see_the_luminance_alone():
    x, y, c1 = torch.full((1, 3, 176, 176), 0.2), torch.full((1, 3, 176, 176), 0.6), 0.01**2
    luminance = (2 * 0.2 * 0.6 + c1) / (0.2**2 + 0.6**2 + c1)
    assert ssim_distance(x, y).item() == pytest.approx(1 - luminance, rel=1e-3)
    assert ms_ssim_distance(x, y).item() == pytest.approx(1 - luminance**0.1333, rel=1e-2)


@pytest.mark.parametrize(("compare", "smallest"), [(ssim_distance, 11), (ms_ssim_distance, 176)])
def test_images_too_small_for_the_window_are_refused(compare, smallest):
    assert compare(images(0, smallest), images(1, smallest)).shape == (2,)
    with pytest.raises(ValueError, match=f"at least {smallest} px"):
        compare(images(0, smallest - 1), images(1, smallest - 1))


def test_structure_is_compared_in_float32_under_autocast():
    x, y = images(0).bfloat16(), images(1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = ssim_distance(x, y)
    torch.testing.assert_close(found, ssim_distance(x.float(), y.float()), rtol=0, atol=0)


def test_pse_and_l1_of_a_pair_are_the_losses_of_that_pair_alone():
    x, y = images(0), images(1)
    expected = torch.stack([pse(x[i : i + 1], y[i : i + 1], sigma=3) for i in range(2)])
    torch.testing.assert_close(pse_distance(x, y, 3), expected, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(l1_distance(x, y).numpy(), np.abs((x - y).numpy()).mean((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("compare", [feature_distance, lambda x, y: lpips_distance(x, y, None)])
def test_the_gradient_keeps_the_memory_layout_of_the_features(compare):
    x, y = (image.to(memory_format=torch.channels_last) for image in (images(0), images(1)))
    (gradient,) = torch.autograd.grad(compare([x.requires_grad_()], [y]).mean(), x)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
