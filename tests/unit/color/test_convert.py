"""sRGB to Lab and back against scikit-image and known colours. Run alone: pytest tests/unit/color/test_convert.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import color as reference

from pretext.color import (
    lab_to_rgb,
    lab_to_xyz,
    linear_to_srgb,
    linear_to_xyz,
    rgb_to_lab,
    srgb_to_linear,
    xyz_to_lab,
    xyz_to_linear,
)

LEVELS = sorted({*range(0, 256, 15), 1, 10, 11, 254})  # 10 | 11 are on two sides of the curve's threshold
FLOAT_IN = [linear_to_srgb, linear_to_xyz, xyz_to_linear, xyz_to_lab, lab_to_xyz, lab_to_rgb]
SRGB_IN = [srgb_to_linear, rgb_to_lab]
SWATCHES = {
    (0, 0, 0): (0.0, 0.0, 0.0),
    (255, 255, 255): (100.0, -0.00245, 0.00465),
    (255, 0, 0): (53.24059, 80.09231, 67.20275),
    (0, 255, 0): (87.73510, -86.18303, 83.17970),
    (0, 0, 255): (32.29567, 79.18559, -107.85730),
    (255, 0, 255): (60.32351, 98.23305, -60.82102),
    (255, 255, 0): (97.13951, -21.55468, 94.47812),
}


def every(levels):
    """All colours of some levels as one uint8 image, 1 x 3 x 1 x N."""
    level = torch.tensor(list(levels), dtype=torch.uint8)
    return torch.cartesian_prod(level, level, level).T.reshape(1, 3, 1, -1)


def random_bytes(*shape):
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def uniform(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def last(image):
    """For scikit-image: channels last, numpy."""
    return image.movedim(-3, -1).contiguous().numpy()


@pytest.mark.parametrize(("swatch", "lab"), SWATCHES.items())
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32, torch.float64])
def test_known_colours(swatch, lab, kind):
    image = torch.tensor(swatch, dtype=torch.uint8).view(3, 1, 1)
    image = image if kind == torch.uint8 else image.to(kind) / 255
    np.testing.assert_allclose(rgb_to_lab(image).flatten().numpy(), lab, rtol=0, atol=1e-4)


@pytest.mark.parametrize("image", [every(LEVELS), random_bytes(2, 3, 64, 64)], ids=["grid", "random"])
@pytest.mark.parametrize("kind", ["bytes", "float"])
def test_lab_is_the_library_s(image, kind):
    expected = reference.rgb2lab(last(image))
    lab = rgb_to_lab(image if kind == "bytes" else image / 255)
    assert lab.dtype == torch.float32
    np.testing.assert_allclose(last(lab), expected, rtol=0, atol=2e-4)


def test_every_step_is_the_library_s_in_double_precision():
    image = every(LEVELS).double() / 255
    xyz, lab = (torch.from_numpy(step(last(image))).movedim(-1, -3) for step in (reference.rgb2xyz, reference.rgb2lab))
    pairs = {
        "srgb to xyz": (linear_to_xyz(srgb_to_linear(image)), xyz),
        "xyz to srgb": (linear_to_srgb(xyz_to_linear(xyz)), image),
        "xyz to lab": (xyz_to_lab(xyz), lab),
        "lab to xyz": (lab_to_xyz(lab), torch.from_numpy(reference.lab2xyz(last(lab))).movedim(-1, -3)),
        "srgb to lab": (rgb_to_lab(image), lab),
        "lab to srgb": (lab_to_rgb(lab), torch.from_numpy(reference.lab2rgb(last(lab))).movedim(-1, -3)),
    }
    for name, (value, expected) in pairs.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("shift", [-1e-3, -1e-9, 0.0, 1e-9, 1e-3])
def test_both_sides_of_a_threshold_are_the_library_s(shift):
    white = torch.tensor([0.95047, 1.0, 1.08883], dtype=torch.float64).view(3, 1, 1)
    xyz = (0.008856 + shift) * white
    lab = torch.tensor([116 * (0.2068966 + shift) - 16, 0, 0], dtype=torch.float64).view(3, 1, 1)
    srgb = torch.full((3, 1, 1), 0.04045 + shift, dtype=torch.float64)
    for ours, theirs, image in (
        (lambda v: linear_to_xyz(srgb_to_linear(v)), reference.rgb2xyz, srgb),
        (xyz_to_lab, reference.xyz2lab, xyz),
        (lab_to_xyz, reference.lab2xyz, lab),
    ):
        np.testing.assert_allclose(last(ours(image)), theirs(last(image)), rtol=0, atol=1e-9)


def test_srgb_curve_beyond_its_range_and_at_its_inverse_threshold():
    linear = torch.tensor([-0.5, 0.0, 0.0031308, 0.00313081, 1.0, 2.0], dtype=torch.float64).expand(3, 1, 6)
    expected = [-6.46, 0, 12.92 * 0.0031308, 1.055 * 0.00313081 ** (1 / 2.4) - 0.055, 1, 1.055 * 2 ** (1 / 2.4) - 0.055]
    np.testing.assert_allclose(linear_to_srgb(linear)[1, 0].numpy(), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(srgb_to_linear(linear_to_srgb(linear)), linear, rtol=1e-6, atol=1e-9)


def test_bytes_and_floats_are_one():
    image = every(LEVELS)
    for convert in SRGB_IN:
        torch.testing.assert_close(convert(image), convert(image / 255), rtol=1e-5, atol=1e-4)


def test_there_and_back():
    image = every(LEVELS)
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(image)), image / 255, rtol=0, atol=2e-5)
    exact = image.double() / 255
    # the published thresholds of a curve and of its inverse meet to 8 digits only
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(exact)), exact, rtol=0, atol=1e-7)


@settings(max_examples=50, deadline=None)
@given(st.tuples(st.floats(0, 120), st.floats(-200, 200), st.floats(-200, 200)))
def test_any_lab_without_negative_light_survives(value):
    lightness, a, b = value
    lab = torch.tensor([lightness, a, min(b, 200 * (lightness + 16) / 116)], dtype=torch.float64).view(3, 1, 1)
    # where a curve and its inverse disagree on the side of a threshold, by 4e-7 of a root
    torch.testing.assert_close(rgb_to_lab(lab_to_rgb(lab, clamp=False)), lab, rtol=0, atol=5e-4)


def test_grey_has_no_colour_and_lightness_grows():
    grey = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    lightness, a, b = rgb_to_lab(grey)
    assert a.abs().max() < 1e-2
    assert b.abs().max() < 1e-2
    assert (lightness.diff() > 0).all()
    assert lightness[0, 0].item() == pytest.approx(0, abs=1e-5)


def test_colours_outside_srgb():
    lab = torch.tensor([50.0, 150, 100, 50, -150, 100]).view(2, 3, 1, 1)
    free = lab_to_rgb(lab, clamp=False)
    assert free.min() < 0
    assert free.max() > 1
    assert torch.equal(lab_to_rgb(lab), free.clamp(0, 1))
    with pytest.warns(UserWarning, match="negative Z values"):
        expected = reference.lab2rgb(np.array([[[10.0, 0.0, 100.0]]]))
    blue = torch.tensor([10.0, 0.0, 100.0], dtype=torch.float64).view(3, 1, 1)
    np.testing.assert_allclose(lab_to_rgb(blue).flatten().numpy(), expected.flatten(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("convert", [*SRGB_IN, *FLOAT_IN], ids=lambda f: f.__name__)
def test_gradient_is_right(convert):
    image = uniform(1, 3, 3, 4).double()
    image[0, :, 0] = torch.tensor([0.0, 1.0, 0.002, 0.05])
    scale = 100 if convert in (lab_to_xyz, lab_to_rgb) else 1
    image = (image * scale).requires_grad_()
    options = {"clamp": False} if convert is lab_to_rgb else {}
    assert torch.autograd.gradcheck(lambda value: convert(value, **options), (image,), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [-1.0, -0.055, 0.0, 0.0031308, 0.008856, 0.04045, 0.2068966, 1.0, 1e6])
def test_gradient_is_finite_everywhere(value, dtype):
    for convert in (*SRGB_IN, *FLOAT_IN):
        image = torch.full((3, 1, 1), value, dtype=dtype, requires_grad=True)
        convert(image).sum().backward()
        assert image.grad.isfinite().all(), convert.__name__


@pytest.mark.parametrize(
    ("convert", "value", "channel", "below", "above"),
    [
        (srgb_to_linear, 0.04045, 1, 1 / 12.92, 2.4 / 1.055 * (0.09545 / 1.055) ** 1.4),
        (linear_to_srgb, 0.0031308, 1, 12.92, 1.055 / 2.4 * 0.0031308 ** (1 / 2.4 - 1)),
        (xyz_to_lab, 0.008856, 1, 116 * 7.787, 116 / 3 * 0.008856 ** (-2 / 3)),
        (lab_to_xyz, 116 * 0.2068966 - 16, 0, 1 / 7.787 / 116, 3 * 0.2068966**2 / 116),
    ],
)
def test_slope_on_each_side_of_a_threshold(convert, value, channel, below, above):
    for shift, slope in ((-1e-9, below), (1e-9, above)):
        image = torch.zeros(3, 1, 1, dtype=torch.float64)
        image[channel] = value + shift
        image.requires_grad_()
        output = 0 if convert is xyz_to_lab else 1
        convert(image)[output].sum().backward()
        assert image.grad[channel].item() == pytest.approx(slope, rel=1e-6)


def test_gradient_through_float32_keeps_the_layout():
    image = uniform(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    lab = rgb_to_lab(image)
    assert lab.is_contiguous(memory_format=torch.channels_last)
    assert lab.requires_grad
    torch.testing.assert_close(lab.detach(), rgb_to_lab(image.detach()), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_become_float32(dtype):
    image = uniform(2, 3, 4, 5).to(dtype)
    lab = rgb_to_lab(image)
    assert lab.dtype == torch.float32
    assert torch.equal(lab, rgb_to_lab(image.float()))


@pytest.mark.parametrize("convert", SRGB_IN, ids=lambda f: f.__name__)
def test_refuses_what_is_no_image(convert):
    with pytest.raises(ValueError, match=r"image must have 3 channels at dimension -3, got shape \(2, 4, 4, 3\)"):
        convert(torch.zeros(2, 4, 4, 3))
    with pytest.raises(ValueError, match=r"got shape \(3, 4\)"):
        convert(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"image must be uint8 or float, got torch.int64"):
        convert(torch.zeros(3, 4, 4, dtype=torch.int64))


@pytest.mark.parametrize(
    ("convert", "name"), list(zip(FLOAT_IN, ("linear", "linear", "xyz", "xyz", "lab", "lab"), strict=True))
)
def test_refuses_bytes_where_only_floats_make_sense(convert, name):
    with pytest.raises(ValueError, match=f"{name} must be float, got torch.uint8"):
        convert(torch.zeros(3, 4, 4, dtype=torch.uint8))
