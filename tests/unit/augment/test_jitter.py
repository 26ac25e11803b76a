"""Colour changes against torchvision, image by image. Run alone: pytest tests/unit/augment/test_jitter.py."""

from __future__ import annotations

import colorsys

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from pretext.augment.jitter import ADJUST, adjust_contrast, adjust_hue, adjust_saturation

REFERENCE = {
    "brightness": reference.adjust_brightness,
    "contrast": reference.adjust_contrast,
    "saturation": reference.adjust_saturation,
    "hue": reference.adjust_hue,
}
FACTORS = {"hue": [-0.5, -0.31, -0.05, 0.0, 0.05, 0.5]}


def pictures(count=6):
    """Noise with every kind of pixel that divides the colour wheel: greys, ties of two channels, black, white."""
    image = torch.rand(count, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    image[:, :, 0] = image[:, :1, 0]
    image[:, 0, 1] = image[:, 1, 1]
    image[:, 1, 2] = image[:, 2, 2]
    image[:, 0, 3] = image[:, 2, 3]
    image[:, :, 4, :5], image[:, :, 4, 5:] = 0, 1
    image[:, :, 5] = torch.eye(3)[torch.arange(10) % 3].T
    return image


@pytest.mark.parametrize("operation", ADJUST)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_each_image_gets_its_own_factor_as_in_torchvision(operation, layout):
    image = pictures().contiguous(memory_format=layout)
    before = image.clone()
    factor = torch.tensor(FACTORS.get(operation, [0.0, 0.4, 0.95, 1.0, 1.2, 3.0]))
    changed = ADJUST[operation](image, factor)
    assert changed.is_contiguous(memory_format=layout)
    torch.testing.assert_close(image, before, rtol=0, atol=0)
    assert changed.min() >= 0
    assert changed.max() <= 1
    for single, value, result in zip(image, factor.tolist(), changed, strict=True):
        torch.testing.assert_close(result, REFERENCE[operation](single, value), rtol=0, atol=2e-6)


@pytest.mark.parametrize("operation", ADJUST)
def test_neutral_factor_changes_nothing(operation):
    image = pictures()
    neutral = torch.full((len(image),), 0.0 if operation == "hue" else 1.0)
    torch.testing.assert_close(ADJUST[operation](image, neutral), image, rtol=0, atol=1e-6)


def test_contrast_zero_is_the_mean_grey():
    image = pictures(1)
    mean = (image.mean(dim=(2, 3)) * torch.tensor([0.2989, 0.587, 0.114])).sum()
    torch.testing.assert_close(adjust_contrast(image, torch.zeros(1)), mean.expand_as(image))


def test_saturation_zero_leaves_greys():
    grey = adjust_saturation(pictures(), torch.zeros(6))
    torch.testing.assert_close(grey, grey[:, :1].expand_as(grey), rtol=0, atol=0)


def test_hue_by_the_standard_library():
    image, turn = pictures(1), 0.17
    changed = adjust_hue(image, torch.tensor([turn]))
    for red, green, blue, *result in torch.cat([image, changed], dim=1)[0].flatten(1).T.double().tolist():
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        assert result == pytest.approx(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value), abs=2e-6)


def test_a_third_of_a_turn_makes_red_green():
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(
        adjust_hue(red, torch.tensor([1 / 3])).flatten(), torch.tensor([0.0, 1.0, 0.0]), rtol=0, atol=1e-6
    )
