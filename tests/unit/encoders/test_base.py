"""The encoder protocol on a toy. Run alone: pytest tests/unit/encoders/test_base.py."""

from __future__ import annotations

import pytest
import torch
from skimage.color import rgb2lab
from torch import nn

from pretext.color import lab_to_unit, rgb_to_lab
from pretext.encoders import Encoder
from pretext.encoders.base import scale_channels


class Toy(Encoder):
    """Two layers; the second refuses to run when told to."""

    def __init__(self, *, num_features=4, image_size=16, **facts):
        super().__init__(
            name="toy", num_features=num_features, image_size=image_size, layers=("map", "latent"), **facts
        )
        self.convolution, self.linear = nn.Conv2d(3, 2, 16), nn.Linear(2, num_features)
        self.armed = False

    def project(self, map_BCHW):
        assert not self.armed, "computed more than was asked for"
        return self.linear(map_BCHW.flatten(1))

    def iter_layers(self):
        yield "map", self.convolution
        yield "latent", self.project


def test_forward_is_the_latent():
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
    with pytest.raises(ValueError, match="layer must be one of map, latent, got 'conv9'"):
        Toy().encode(torch.rand(1, 3, 16, 16), "conv9")


def test_the_code_is_the_latent_unless_said():
    assert (Toy().code_layer, Toy().code_shape) == ("latent", (4,))
    toy = Toy(code_layer="map", code_shape=(2, 1, 1))
    assert (toy.code_layer, toy.code_shape) == ("map", (2, 1, 1))


@pytest.mark.parametrize("space", ["rgb", "lab"])
def test_forward_encodes_what_from_rgb_makes(space):
    toy, image = Toy(input_space=space), torch.rand(3, 3, 16, 16)
    for layer in toy.layers:
        assert torch.equal(toy.forward_layer(image, layer), toy.encode(toy.from_rgb(image), layer))
    assert torch.equal(toy(image), toy.encode(toy.from_rgb(image)))


def test_rgb_is_left_alone():
    image = torch.rand(3, 3, 16, 16)
    assert Toy().from_rgb(image) is image


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_lab_input(dtype):
    image = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = torch.from_numpy(rgb2lab(image.double().permute(0, 2, 3, 1).numpy())).permute(0, 3, 1, 2)
    expected = (expected - torch.tensor([0.0, -87, -108]).view(3, 1, 1)) / torch.tensor([100.0, 186, 203]).view(3, 1, 1)
    unit = Toy(input_space="lab").from_rgb(image)
    assert unit.dtype == dtype
    assert unit.min() >= 0
    assert unit.max() <= 1
    torch.testing.assert_close(unit.double(), expected, rtol=0, atol=4e-3 if dtype == torch.bfloat16 else 1e-5)


def test_lab_input_is_exact_under_autocast():
    image = torch.rand(3, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        unit = Toy(input_space="lab").from_rgb(image)
    assert torch.equal(unit, lab_to_unit(rgb_to_lab(image)))


@pytest.mark.parametrize("space", ["rgb", "lab"])
def test_bytes_are_no_images_in_0_1(space):
    toy, image = Toy(input_space=space), torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    for function in (toy, toy.encode, toy.from_rgb):
        with pytest.raises(ValueError, match=r"image must be float in 0\.\.1, got torch.uint8"):
            function(image)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 1, 16, 16), (1, 3, 16, 17), (1, 3, 32, 32)])
def test_images_of_another_shape(shape):
    with pytest.raises(ValueError, match=rf"image must be \(B, 3, 16, 16\), got \({', '.join(map(str, shape))}\)"):
        Toy()(torch.rand(shape))
    with pytest.raises(ValueError, match=r"image must be \(B, 3, 16, 16\), got"):
        Toy(input_space="lab")(torch.rand(shape))
    with pytest.raises(ValueError, match=r"image must be \(B, 3, 16, 16\), got"):
        Toy().encode(torch.rand(shape))


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


@pytest.mark.parametrize("channels", [12, 24, 100])
def test_channels_at_width_one_are_left_alone(channels):
    assert scale_channels(channels, 1.0) == channels


@pytest.mark.parametrize("width", [0, -1.0, float("nan")])
def test_width_out_of_range(width):
    with pytest.raises(ValueError, match=f"width must be > 0, got {width}"):
        scale_channels(64, width)
