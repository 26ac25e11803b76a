"""The perceptual autoencoders' encoder and decoder. Run alone: pytest tests/unit/encoders/test_conv_k4.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pretext.encoders.conv_k4 import build_conv_k4
from pretext.encoders.decoders import build_decoder_for


def images(count=2, size=96):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_facts_at_the_defaults():
    encoder = build_conv_k4()
    assert count(encoder) == 953_312
    assert (encoder.name, encoder.num_features, encoder.image_size) == ("conv-k4", 64, 96)
    assert encoder.layers == ("conv1", "conv2", "conv3", "conv4", "latent")
    assert (encoder.code_layer, encoder.code_shape, encoder.input_space) == ("latent", (64,), "rgb")


@pytest.mark.parametrize(
    ("size", "grids"), [(96, [47, 22, 10, 4]), (64, [31, 14, 6, 2]), (46, [22, 10, 4, 1]), (97, [47, 22, 10, 4])]
)
def test_maps_are_those_of_convolutions_without_padding(size, grids):
    encoder = build_conv_k4(image_size=size).eval()
    shapes = [tuple(encoder.forward_layer(images(size=size), name).shape[1:]) for name in encoder.layers]
    maps = [(channels, grid, grid) for channels, grid in zip([32, 64, 128, 256], grids, strict=True)]
    assert shapes == [*maps, (64,)]


def test_it_is_convolution_batch_norm_and_relu_and_a_linear_layer():
    encoder = build_conv_k4(width=0.25).train()
    value = images(4)
    for name in ("conv1", "conv2", "conv3", "conv4"):
        convolution = encoder.get_submodule(f"{name}.0")
        value = nn.functional.conv2d(value, convolution.weight, convolution.bias, stride=2)
        variance, mean = torch.var_mean(value, dim=(0, 2, 3), keepdim=True, correction=0)
        value = ((value - mean) / (variance + 1e-5).sqrt()).clamp_min(0)
        torch.testing.assert_close(encoder.forward_layer(images(4), name), value, rtol=1e-4, atol=1e-5)
    linear = encoder.get_submodule("latent.1")
    torch.testing.assert_close(
        encoder(images(4)), value.flatten(1) @ linear.weight.T + linear.bias, rtol=1e-4, atol=1e-5
    )


def test_width_scales_channels_and_latent_dim_the_vector():
    encoder = build_conv_k4(width=0.5, latent_dim=7)
    assert [encoder.get_submodule(f"conv{k}.0").out_channels for k in range(1, 5)] == [16, 32, 64, 128]
    assert encoder(images()).shape == (2, 7)


@pytest.mark.parametrize("size", [0, 16, 45])
def test_images_too_small_for_four_convolutions(size):
    with pytest.raises(ValueError, match=f"image_size must be >= 46, got {size}"):
        build_conv_k4(image_size=size)


def test_the_decoder_has_the_published_layers():
    decoder = build_decoder_for(build_conv_k4())
    linear = 64 * 9216 + 9216
    convolutions = 1024 * 128 * 25 + 128 + 128 * 64 * 25 + 64 + 64 * 32 * 36 + 32 + 32 * 3 * 36 + 3
    assert count(decoder) == linear + convolutions + 2 * (128 + 64 + 32)
    kinds = [type(layer).__name__ for layer in [*decoder.expand, *decoder.layers]]
    assert kinds == ["Linear", "ReLU", "Unflatten", *["ConvTranspose2d", "BatchNorm2d", "ReLU"] * 3, "ConvTranspose2d",
                     "Sigmoid"]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "grids"), [(64, [1, 5, 13, 30, 64]), (96, [3, 9, 21, 46, 96]), (80, [2, 7, 17, 38, 80])]
)
def test_the_decoder_s_grids_end_at_the_image(size, grids):
    decoder = build_decoder_for(build_conv_k4(image_size=size, width=0.125), width=0.125).eval()
    value, found = decoder.expand(torch.randn(2, 64, generator=torch.Generator().manual_seed(0))), []
    for layer in decoder.layers:
        value = layer(value)
        if isinstance(layer, (nn.Unflatten, nn.ConvTranspose2d)):
            found.append(value.shape[-1])
    assert found == grids
    assert value.shape == (2, 3, size, size)
    assert value.min() >= 0
    assert value.max() <= 1


def test_decoded_codes_carry_gradients_to_all_of_the_encoder():
    encoder = build_conv_k4(image_size=64, width=0.25, latent_dim=5)
    decoder = build_decoder_for(encoder, width=0.25)
    decoder(encoder(images(4, 64))).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for module in (encoder, decoder) for parameter in module.parameters())


@pytest.mark.parametrize("size", [48, 72, 100])
def test_image_sizes_that_the_decoder_can_t_reach(size):
    with pytest.raises(ValueError, match=f"image_size must be 64 or a larger multiple of 16 .* got {size}"):
        build_decoder_for(build_conv_k4(image_size=size, width=0.125))


def test_code_of_another_width():
    with pytest.raises(ValueError, match=r"code must be \(B, 64\), got \(2, 5\)"):
        build_decoder_for(build_conv_k4(width=0.125), width=0.125)(torch.zeros(2, 5))
