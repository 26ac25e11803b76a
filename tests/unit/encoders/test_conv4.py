"""The denoising encoder. Run alone: pytest tests/unit/encoders/test_conv4.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pretext.encoders import build_conv4


def images(count=2, size=96):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_facts_at_the_defaults():
    encoder = build_conv4()
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 97_524
    assert (encoder.name, encoder.num_features, encoder.image_size) == ("conv4", 3456, 96)
    assert encoder.layers == ("conv1", "conv2", "conv3", "conv4", "latent")
    assert (encoder.code_layer, encoder.code_shape, encoder.input_space) == ("conv4", (96, 6, 6), "rgb")
    assert not [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(("size", "grids"), [(96, [48, 24, 12, 6]), (64, [32, 16, 8, 4]), (16, [8, 4, 2, 1])])
def test_maps(size, grids):
    encoder = build_conv4(image_size=size)
    shapes = [tuple(encoder.forward_layer(images(size=size), name).shape[1:]) for name in encoder.layers]
    maps = [(channels, grid, grid) for channels, grid in zip([12, 24, 48, 96], grids, strict=True)]
    assert shapes == [*maps, (96 * grids[-1] ** 2,)]
    assert encoder.code_shape == maps[-1]


def test_it_is_four_convolutions_with_relu():
    encoder = build_conv4()
    value = images()
    for name in ("conv1", "conv2", "conv3", "conv4"):
        convolution = encoder.get_submodule(f"{name}.0")
        value = nn.functional.conv2d(value, convolution.weight, convolution.bias, stride=2, padding=1).clamp_min(0)
        torch.testing.assert_close(encoder.forward_layer(images(), name), value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(encoder(images()), value.flatten(1), rtol=1e-5, atol=1e-6)


def test_width_scales_channels():
    assert [build_conv4(width=0.5).get_submodule(f"conv{k}.0").out_channels for k in range(1, 5)] == [8, 16, 24, 48]


@pytest.mark.parametrize("size", [0, -16, 8, 40, 100])
def test_sizes_that_do_not_come_out(size):
    with pytest.raises(ValueError, match=f"image_size must be a positive multiple of 16, got {size}"):
        build_conv4(image_size=size)
