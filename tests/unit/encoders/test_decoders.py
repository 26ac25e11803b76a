"""The decoders, and the whole autoencoder's size. Run alone: pytest tests/unit/encoders/test_decoders.py."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from pretext.encoders import (
    build_alexnet_fcn,
    build_cnn,
    build_conv4,
    build_decoder,
    build_decoder_for,
    build_resnet18,
    build_resnet18_fcn,
    build_simplenet5,
    build_simplenet13,
)
from pretext.encoders.decoders import MapDecoder

SIZES = [16, 32, 48, 64, 80, 96, 112, 128, 160]


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_at_the_defaults():
    assert count(build_decoder()) == 3_936_771


def test_parameters_with_encoder_and_classifier_head():
    head = nn.Sequential(
        nn.Linear(256, 128), nn.Sigmoid(), nn.Dropout(0.1),
        nn.Linear(128, 128), nn.Sigmoid(), nn.Dropout(0.5),
        nn.Linear(128, 10),
    )  # fmt: skip
    assert count(build_cnn()) + count(build_decoder()) + count(head) == 5_557_517


@pytest.mark.parametrize("size", SIZES)
def test_every_size_comes_out(size):
    decoder = build_decoder(image_size=size, width=0.125, latent_dim=7).eval()
    latent = torch.randn(2, 7, generator=torch.Generator().manual_seed(0))
    before = latent.clone()
    image = decoder(10 * latent)
    assert image.shape == (2, 3, size, size)
    assert image.min() >= 0
    assert image.max() <= 1
    assert torch.equal(latent, before)


@pytest.mark.parametrize(
    ("size", "grids", "kernels"),
    [
        (96, [3, 10, 23, 48, 96, 96], [6, 5, 4, 4, 3]),
        (64, [1, 6, 15, 32, 64, 64], [6, 5, 4, 4, 3]),
        (48, [3, 6, 12, 24, 48, 48], [4, 4, 4, 4, 3]),
        (32, [2, 4, 8, 16, 32, 32], [4, 4, 4, 4, 3]),
        (16, [1, 2, 4, 8, 16, 16], [4, 4, 4, 4, 3]),
    ],
)
def test_grids_and_kernels(size, grids, kernels):
    decoder = build_decoder(image_size=size, latent_dim=4).eval()
    convolutions = [module for module in decoder.modules() if isinstance(module, nn.ConvTranspose2d)]
    assert [module.kernel_size[0] for module in convolutions] == kernels
    assert [module.out_channels for module in convolutions] == [256, 128, 64, 32, 3]
    passed = []
    for module in convolutions:
        module.register_forward_hook(lambda module, inputs, output: passed.append((inputs[0], output)))
    decoder(torch.zeros(1, 4))
    assert [passed[0][0].shape[-1]] + [output.shape[-1] for _, output in passed] == grids


def test_every_parameter_gets_a_gradient():
    decoder = build_decoder(image_size=32, width=0.125, latent_dim=7)
    decoder(torch.randn(8, 7, generator=torch.Generator().manual_seed(0))).square().mean().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        if not (name.startswith("up") and name.endswith(".0.bias")):  # batch normalisation cancels those
            assert parameter.grad.abs().max() > 0, name


def test_a_row_is_independent_of_its_neighbours():
    decoder = build_decoder(image_size=32, width=0.125, latent_dim=7).eval()
    latent = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    together = decoder(latent)[0]
    torch.testing.assert_close(decoder(latent[:1])[0], together, rtol=1e-5, atol=1e-6)


def test_finite_under_autocast_and_in_channels_last():
    decoder = build_decoder(image_size=32, width=0.125, latent_dim=7).eval()
    latent = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    plain = decoder(latent)
    torch.testing.assert_close(decoder.to(memory_format=torch.channels_last)(latent), plain, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = decoder(latent)
    assert half.isfinite().all()
    torch.testing.assert_close(half.float(), plain, rtol=0, atol=0.02)


def test_the_seed_decides_the_weights():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build_decoder(image_size=16, width=0.125, latent_dim=4).state_dict())
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("size", [0, -16, 8, 40, 100])
def test_sizes_that_do_not_come_out(size):
    with pytest.raises(ValueError, match=f"image_size must be a positive multiple of 16, got {size}"):
        build_decoder(image_size=size)


def test_other_options_out_of_range():
    with pytest.raises(ValueError, match="latent_dim must be >= 1, got 0"):
        build_decoder(latent_dim=0)
    with pytest.raises(ValueError, match="width must be > 0, got -1"):
        build_decoder(width=-1)


def test_latent_of_another_width():
    with pytest.raises(ValueError, match=r"latent must be \(B, 256\), got \(2, 128\)"):
        build_decoder(image_size=16)(torch.zeros(2, 128))


SMALL = {
    "cnn": partial(build_cnn, width=0.125, latent_dim=7),
    "resnet18": partial(build_resnet18, width=0.125, latent_dim=7),
    "conv4": build_conv4,
    "simplenet5": partial(build_simplenet5, width=0.5),
    "simplenet5-split": partial(build_simplenet5, width=0.5, channels=("L", "ab"), outputs=(4, 4)),
    "simplenet13": partial(build_simplenet13, width=0.0625),
    "alexnet-fcn": partial(build_alexnet_fcn, width=0.03125),
    "alexnet-fcn-11x11": partial(build_alexnet_fcn, width=0.03125, stem="11x11"),
    "resnet18-fcn": partial(build_resnet18_fcn, width=0.125),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [64, 96])
def test_an_encoder_s_decoder_makes_its_images(name, size):
    encoder = SMALL[name](image_size=size)
    decoder = build_decoder_for(encoder, width=0.125)
    image = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    code = encoder.forward_layer(image, encoder.code_layer)
    before = code.clone()
    decoded = decoder(code)
    assert decoded.shape == image.shape
    assert 0 <= decoded.min() < decoded.max() <= 1
    assert torch.equal(code, before)
    decoded.square().mean().backward()
    for parameter in decoder.parameters():
        assert parameter.grad.isfinite().all()
    assert all(value.grad is not None for key, value in encoder.named_parameters() if "logits" not in key)


def test_a_vector_s_decoder_is_the_old_one():
    encoder = build_cnn(width=0.125, image_size=32, latent_dim=7)
    torch.manual_seed(0)
    expected = build_decoder(image_size=32, width=0.125, latent_dim=7).state_dict()
    torch.manual_seed(0)
    state = build_decoder_for(encoder, width=0.125).state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_conv4_s_decoder_is_its_mirror():
    decoder = build_decoder_for(build_conv4(), width=0.5).eval()
    assert count(decoder) == 97_431
    convolutions = [module for module in decoder.modules() if isinstance(module, nn.ConvTranspose2d)]
    assert [module.in_channels for module in convolutions] == [96, 48, 24, 12]
    value = torch.randn(2, 96, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = value
    for module in convolutions:
        options = {"stride": 2, "padding": 1}
        expected = nn.functional.conv_transpose2d(expected.relu(), module.weight, module.bias, **options)
    # the first map is a ReLU's already
    torch.testing.assert_close(decoder(value.relu()), expected.sigmoid(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("code_shape", "size", "width", "channels", "grids"),
    [
        ((192, 16, 16), 96, 1.0, [96, 48, 24], [24, 48, 96]),
        ((8192, 12, 12), 96, 1.0, [256, 128, 64], [24, 48, 96]),
        ((8192, 12, 12), 96, 0.25, [64, 32, 16], [24, 48, 96]),
        ((512, 24, 24), 96, 1.0, [256, 128], [48, 96]),
        ((40, 1, 1), 20, 1.0, [20, 16, 16, 16, 16], [2, 3, 5, 10, 20]),
        ((40, 13, 13), 100, 1.0, [20, 16, 16], [25, 50, 100]),
        ((40, 12, 12), 100, 1.0, [20, 16, 16, 16], [13, 25, 50, 100]),
        ((64, 30, 30), 32, 1.0, [32], [32]),
    ],
)
def test_a_map_grows_by_halves_of_the_image(code_shape, size, width, channels, grids):
    with torch.device("meta"):
        decoder = MapDecoder(code_shape=code_shape, image_size=size, width=width)
        maps, value = [], torch.empty(2, *code_shape)
        for block in decoder.ups:
            value = block(value)
            maps.append(tuple(value.shape[1:]))
    assert maps == [(c, g, g) for c, g in zip(channels, grids, strict=True)]


def test_a_map_s_decoder_is_nearest_then_convolution():
    decoder = MapDecoder(code_shape=(32, 4, 4), image_size=8, width=1.0).eval()
    value = torch.randn(2, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    grown = value.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    convolution = decoder.ups[0][1]
    hidden = nn.functional.conv2d(grown, convolution.weight, convolution.bias, padding=1).relu() / (1 + 1e-5) ** 0.5
    expected = nn.functional.conv2d(hidden, decoder.paint.weight, decoder.paint.bias, padding=1).sigmoid()
    torch.testing.assert_close(decoder(value), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("build", [partial(build_simplenet5, image_size=64), build_conv4])
def test_code_of_another_shape(build):
    encoder = build()
    shape = ", ".join(map(str, encoder.code_shape))
    with pytest.raises(ValueError, match=rf"code must be \(B, {shape}\), got \(2, 96, 5, 5\)"):
        build_decoder_for(encoder)(torch.zeros(2, 96, 5, 5))


def test_width_of_a_map_s_decoder_out_of_range():
    with pytest.raises(ValueError, match="width must be > 0, got 0"):
        build_decoder_for(build_simplenet5(), width=0)
