"""Sub-networks that share nothing, on a toy architecture. Run alone: pytest tests/unit/encoders/test_split.py."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import nn

from pretext.encoders.split import SplitNet, find_slice, find_space, trace_shapes

# The blocks on the way to each layer.
PASSED = {
    "conv1": ["conv1"],
    "conv2": ["conv1", "conv2"],
    "latent": ["conv1", "conv2"],
    "logits": ["conv1", "conv2", "logits"],
}


def toy_part(seen, outputs):
    part = {
        "conv1": nn.Sequential(nn.Conv2d(seen, 4, 4, stride=2, padding=1), nn.ReLU()),
        "conv2": nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, dilation=2), nn.ReLU()),
    }
    return part | ({"logits": nn.Conv2d(6, outputs, 2)} if outputs else {})


def toy(channels=("L", "ab"), outputs=(5, 3), image_size=32):
    torch.manual_seed(0)
    return SplitNet(name="toy", image_size=image_size, channels=channels, outputs=outputs, build_part=toy_part)


def image(count=2, size=32, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_facts():
    net = toy()
    assert net.layers == ("conv1", "conv2", "latent", "logits")
    assert (net.num_features, net.code_layer, net.code_shape, net.output_grid) == (12, "conv2", (12, 4, 4), 3)
    assert (net.input_space, net.channels, net.outputs) == ("lab", ("L", "ab"), (5, 3))
    plain = toy(channels=["RGB"], outputs=[])
    assert plain.layers == ("conv1", "conv2", "latent")
    assert (plain.num_features, plain.code_shape, plain.output_grid) == (6, (6, 4, 4), 0)
    assert (plain.input_space, plain.channels, plain.outputs) == ("rgb", ("RGB",), ())


@pytest.mark.parametrize("channels", [("L", "ab"), ("R", "GB"), ("RGB",), ("L", "L"), ("RB", "G", "RGB")])
@pytest.mark.parametrize("layer", PASSED)
def test_parts_are_the_blocks_on_the_letters_channels(channels, layer):
    net = toy(channels, outputs=range(3, 3 + len(channels)))
    values = net.encode_parts(image(), layer)
    letters = "Lab" if channels[0] == "L" else "RGB"
    for group, part, value in zip(channels, net.parts, values, strict=True):
        expected = image()[:, [letters.index(letter) for letter in group]]
        for name in PASSED[layer]:
            expected = part[name](expected)
        expected = expected.flatten(2).mean(2) if layer == "latent" else expected
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(net.encode(image(), layer), torch.cat(values, dim=1))


def test_forward_converts_and_averages():
    net = toy()
    assert torch.equal(net(image()), net.encode(net.from_rgb(image()), "latent"))
    assert not torch.equal(net.from_rgb(image()), image())


def test_nothing_behind_the_layer_is_computed():
    net = toy()

    def refuse(*arguments):
        raise AssertionError("computed more than was asked for")

    net.parts[1]["logits"].register_forward_hook(refuse)
    for layer in ("conv1", "conv2", "latent"):
        assert len(net.encode(image(), layer)) == 2
    net.parts[0]["conv2"].register_forward_hook(refuse)
    assert net.encode(image(), "conv1").shape == (2, 8, 16, 16)
    with pytest.raises(AssertionError, match="more than was asked for"):
        net(image())


def test_sub_networks_share_no_weights():
    net = toy(("L", "L"), (3, 3))
    first, second = ({value.data_ptr() for value in part.parameters()} for part in net.parts)
    assert not first & second
    one, other = net.encode_parts(image(), "conv1")
    assert not torch.equal(one, other)


def test_calls_are_checked():
    with pytest.raises(ValueError, match="layer must be one of conv1, conv2, latent, logits, got 'conv3'"):
        toy().encode_parts(image(), "conv3")
    with pytest.raises(ValueError, match="layer must be one of conv1, conv2, latent, got 'logits'"):
        toy(outputs=()).encode(image(), "logits")
    with pytest.raises(ValueError, match=r"image must be \(B, 3, 32, 32\), got \(2, 3, 16, 16\)"):
        toy().encode(image(size=16))


@pytest.mark.parametrize("letters", ["RGB", "Lab"])
def test_every_group_finds_its_channels(letters):
    groups = ["".join(group) for count in (1, 2, 3) for group in combinations(letters, count)]
    assert len(groups) == 7
    for group in groups:
        assert find_space([group, letters]) == letters.lower()
        assert [letters[k] for k in range(3)[find_slice(group, letters)]] == list(group)


@pytest.mark.parametrize(
    "channels", [(), "RGB", "L", ("",), ("L", ""), ("L", "GB"), ("lab",), ("BG",), ("LL",), ("L", "bb"), ("H",)]
)
def test_channels_that_mean_nothing(channels):
    with pytest.raises(ValueError, match="channels must be groups of the letters of RGB or of Lab") as caught:
        toy(channels, outputs=())
    assert str(caught.value).endswith(f"got {channels!r}")


@pytest.mark.parametrize("outputs", [(5,), (5, 3, 2), (5, 0), (-1, 3)])
def test_outputs_that_do_not_fit(outputs):
    with pytest.raises(ValueError, match="outputs must be empty or a number >= 1 for each of L, ab, got") as caught:
        toy(outputs=outputs)
    assert str(caught.value).endswith(f"got {outputs}")


@pytest.mark.parametrize(("outputs", "smallest"), [((), 20), ((2, 2), 24)])
def test_an_image_too_small_for_the_kernels(outputs, smallest):
    net = toy(outputs=outputs, image_size=smallest)
    assert net.encode(image(size=smallest), net.layers[-1]).isfinite().all()
    for size in (smallest - 1, 16, 5, 0):
        with pytest.raises(ValueError, match=f"image_size must be >= {smallest}, got {size}"):
            toy(outputs=outputs, image_size=size)


def test_shapes_are_traced_through_pools_and_stay_nothing():
    blocks = [nn.Conv2d(3, 4, 3, stride=2), nn.Sequential(nn.MaxPool2d(3, padding=1), nn.AdaptiveAvgPool2d(5))]
    for size in (3, 4, 15, 16, 17, 33):
        maps, expected = torch.zeros(1, 3, size, size), []
        for block in blocks:
            maps = block(maps)
            expected.append((maps.shape[1], maps.shape[2]))
        assert trace_shapes(blocks, size) == expected
    assert trace_shapes(blocks, 2) == [(4, 0), (4, 0)]
