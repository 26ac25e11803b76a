"""Shrinking as matrices against scikit-image. Run alone: pytest tests/unit/color/test_downscale.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize

from pretext.color import downscale, downscale_matrix

BORDERS = {"reflect": "reflect", "zero": "constant"}


def library(image_CHW, size, border):
    shrunk = resize(
        image_CHW.transpose(1, 2, 0), (size, size), order=1, anti_aliasing=True, preserve_range=True,
        mode=BORDERS[border], clip=False,
    )  # fmt: skip
    return shrunk.transpose(2, 0, 1)


def uniform(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def images(*shape):
    return np.random.default_rng(0).normal(20, 30, shape)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(
    ("height", "width", "size"), [(96, 96, 12), (96, 96, 16), (96, 96, 25), (32, 48, 31), (180, 90, 7)]
)
def test_is_the_library_s_resize(height, width, size, border):
    image = images(2, 3, height, width)
    small = downscale(torch.from_numpy(image), size, border=border)
    assert small.dtype == torch.float64
    expected = np.stack([library(one, size, border) for one in image])
    np.testing.assert_allclose(small.numpy(), expected, rtol=1e-9, atol=1e-9)
    single = downscale(torch.from_numpy(image).float(), size, border=border)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=1e-5, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(sorted(BORDERS)))
def test_any_sizes_are_the_library_s(data, border):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    size = data.draw(st.integers(1, min(height, width)))
    image = images(3, height, width)
    small = downscale(torch.from_numpy(image)[None], size, border=border)[0]
    np.testing.assert_allclose(small.numpy(), library(image, size, border), rtol=1e-9, atol=1e-9)


def test_the_library_s_clip_is_the_only_difference():
    image = np.random.default_rng(0).uniform(70, 80, (3, 24, 24))
    small = downscale(torch.from_numpy(image)[None], 4, border="zero")[0].numpy()
    clipped = resize(
        image.transpose(1, 2, 0), (4, 4), order=1, anti_aliasing=True, preserve_range=True, mode="constant"
    ).transpose(2, 0, 1)
    np.testing.assert_allclose(small.clip(image.min(), image.max()), clipped, rtol=1e-9)
    assert (small < image.min()).any()


@pytest.mark.parametrize("border", BORDERS)
def test_one_matrix_by_hand(border):
    """From 6 lines to 2: sigma 1, so 4 taps on each side, read off exactly at lines 1 and 4."""
    weight = np.exp(-0.5 * np.arange(-4, 5) ** 2.0)
    weight /= weight.sum()
    expected = np.zeros((2, 6))
    for row, centre in enumerate((1, 4)):
        for tap, offset in enumerate(range(-4, 5)):
            line = centre + offset
            if 0 <= line < 6:
                expected[row, line] += weight[tap]
            elif border == "reflect":
                expected[row, -line if line < 0 else 10 - line] += weight[tap]
    np.testing.assert_allclose(downscale_matrix(6, 2, border=border).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(("size_in", "size_out"), [(96, 12), (97, 13), (5, 1), (2, 1), (9, 6)])
def test_rows_are_means(size_in, size_out):
    mirrored, cut = (downscale_matrix(size_in, size_out, border=border) for border in ("reflect", "zero"))
    assert mirrored.shape == cut.shape == (size_out, size_in)
    assert mirrored.dtype == torch.float32
    assert mirrored.min() >= 0
    torch.testing.assert_close(mirrored.sum(1), torch.ones(size_out))
    assert (cut <= mirrored + 1e-7).all()
    assert cut[0].sum() < 1
    torch.testing.assert_close(cut, cut.flip(0, 1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("border", BORDERS)
def test_the_same_size_is_the_same_image(border):
    image = uniform(2, 3, 8, 8)
    small = downscale(image, 8, border=border)
    assert torch.equal(small, image)
    small += 1
    assert image.max() < 1


def test_a_constant_image_stays_and_zeros_darken_its_border():
    image = torch.full((1, 3, 96, 96), 70.0)
    torch.testing.assert_close(downscale(image, 12), torch.full((1, 3, 12, 12), 70.0))
    dark = downscale(image, 12, border="zero")[0, 0]
    assert dark[0, 0] < dark[0, 5] < dark[5, 5]
    assert dark[5, 5].item() == pytest.approx(70, rel=1e-5)


def test_layout_changes_no_value_and_channels_may_be_many():
    image = uniform(2, 5, 20, 30)
    expected = downscale(image, 7)
    assert expected.shape == (2, 5, 7, 7)
    torch.testing.assert_close(downscale(image.to(memory_format=torch.channels_last), 7), expected)


def test_gradient_and_autocast():
    image = uniform(1, 2, 6, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda value: downscale(value, 3), (image,))
    single = uniform(1, 3, 24, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        small = downscale(single, 4)
    assert torch.equal(small, downscale(single, 4))
    assert downscale(single.half(), 4).dtype == torch.float32


def test_the_matrix_is_made_once():
    with torch.inference_mode():
        first = downscale_matrix(41, 10, border="reflect")
    assert downscale_matrix(41, 10, border="reflect") is first
    assert not first.is_inference()


@pytest.mark.parametrize("size", [0, -1, 97])
def test_refuses_to_enlarge(size):
    with pytest.raises(ValueError, match=rf"size_out must be in 1..96, the size it is made from, got {size}"):
        downscale_matrix(96, size, border="zero")


def test_refuses_other_arguments():
    with pytest.raises(ValueError, match="border must be one of reflect, zero, got 'wrap'"):
        downscale_matrix(96, 12, border="wrap")
    with pytest.raises(ValueError, match=r"image must be a float \(B, C, H, W\), got torch.uint8 \(1, 3, 8, 8\)"):
        downscale(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 4)
    with pytest.raises(ValueError, match=r"got torch.float32 \(3, 8, 8\)"):
        downscale(torch.zeros(3, 8, 8), 4)
    with pytest.raises(ValueError, match="got 9"):
        downscale(torch.zeros(1, 3, 12, 8), 9)
