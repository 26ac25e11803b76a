"""The decoder, and the whole autoencoder's size. Run alone: pytest tests/unit/encoders/test_decoders.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pretext.encoders import build_cnn, build_decoder

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
