"""The small convolutional encoder. Run alone: pytest tests/unit/encoders/test_cnn.py."""

from __future__ import annotations

import pytest
import torch

from pretext.encoders import build_cnn


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_at_the_defaults():
    encoder = build_cnn()
    assert count(encoder) == 1_570_048
    assert (encoder.name, encoder.num_features, encoder.image_size) == ("cnn", 256, 96)
    assert encoder.layers == ("conv1", "conv2", "conv3", "conv4", "conv5", "latent")


@pytest.mark.parametrize(
    ("size", "grids"),
    [(96, [48, 24, 12, 6, 3]), (48, [24, 12, 6, 3, 2]), (50, [25, 13, 7, 4, 2]), (16, [8, 4, 2, 1, 1])],
)
def test_maps(size, grids):
    encoder = build_cnn(image_size=size).eval()
    shapes = [tuple(encoder.forward_layer(torch.zeros(1, 3, size, size), name).shape[1:]) for name in encoder.layers]
    assert shapes == [(c, g, g) for c, g in zip([32, 64, 128, 256, 256], grids, strict=True)] + [(256,)]


def test_width_scales_channels():
    assert [build_cnn(width=0.25).get_submodule(f"conv{k}.0").out_channels for k in range(1, 6)] == [8, 16, 32, 64, 64]


def test_a_layer_is_convolution_normalisation_leaky_relu():
    encoder = build_cnn(width=0.125).eval()
    image = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    weight, bias = encoder.get_submodule("conv1.0").weight, encoder.get_submodule("conv1.0").bias
    linear = torch.nn.functional.conv2d(image, weight, bias, stride=2, padding=1) / (1 + 1e-5) ** 0.5
    expected = torch.maximum(linear, 0.2 * linear)
    torch.testing.assert_close(encoder.forward_layer(image, "conv1"), expected)
