"""The encoder protocol on a toy. Run alone: pytest tests/unit/encoders/test_base.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pretext.encoders import Encoder
from pretext.encoders.base import scale_channels


class Toy(Encoder):
    """Two layers; the second refuses to run when told to."""

    def __init__(self, *, num_features=4, image_size=16):
        super().__init__(name="toy", num_features=num_features, image_size=image_size, layers=("map", "latent"))
        self.convolution, self.linear = nn.Conv2d(3, 2, 16), nn.Linear(2, num_features)
        self.armed = False

    def project(self, map_BCHW):
        assert not self.armed, "computed more than was asked for"
        return self.linear(map_BCHW.flatten(1))

    def iter_layers(self):
        yield "map", self.convolution
        yield "latent", self.project


def test_forward_is_the_last_layer():
    toy, image = Toy(), torch.rand(3, 3, 16, 16)
    assert torch.equal(toy(image), toy.forward_layer(image, "latent"))
    assert toy(image).shape == (3, 4)


def test_nothing_behind_the_layer_is_computed():
    toy, image = Toy(), torch.rand(3, 3, 16, 16)
    toy.armed = True
    assert toy.forward_layer(image, "map").shape == (3, 2, 1, 1)
    with pytest.raises(AssertionError, match="more than was asked for"):
        toy(image)


def test_unknown_layer_lists_the_known():
    with pytest.raises(ValueError, match="layer must be one of map, latent, got 'conv9'"):
        Toy().forward_layer(torch.rand(1, 3, 16, 16), "conv9")


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 1, 16, 16), (1, 3, 16, 17), (1, 3, 32, 32)])
def test_images_of_another_shape(shape):
    with pytest.raises(ValueError, match=rf"image must be \(B, 3, 16, 16\), got \({', '.join(map(str, shape))}\)"):
        Toy()(torch.rand(shape))


def test_facts_out_of_range():
    with pytest.raises(ValueError, match="latent_dim must be >= 1, got 0"):
        Toy(num_features=0)
    with pytest.raises(ValueError, match="image_size must be >= 16, got 15"):
        Toy(image_size=15)


@pytest.mark.parametrize(
    ("channels", "width", "scaled"),
    [(32, 1, 32), (32, 0.5, 16), (32, 0.01, 8), (64, 0.3, 16), (64, 0.33, 24), (256, 1.5, 384), (32, 0.375, 16)],
)
def test_channels_in_multiples_of_eight(channels, width, scaled):
    assert scale_channels(channels, width) == scaled


@pytest.mark.parametrize("width", [0, -1.0, float("nan")])
def test_width_out_of_range(width):
    with pytest.raises(ValueError, match=f"width must be > 0, got {width}"):
        scale_channels(64, width)
