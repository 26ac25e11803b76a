"""What holds for every encoder built here. Run alone: pytest tests/unit/encoders/test_builders.py."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from pretext.encoders import build_cnn, build_resnet18

BUILDERS = {
    "cnn": build_cnn,
    "resnet18-3x3": build_resnet18,
    "resnet18-7x7": partial(build_resnet18, stem="7x7"),
}
SIZES = [16, 32, 48, 64, 96, 128]


@pytest.fixture(params=BUILDERS)
def build(request):
    return partial(BUILDERS[request.param], width=0.125, latent_dim=12)


def images(count, size, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", SIZES)
def test_shapes(build, size):
    encoder = build(image_size=size).eval()
    image = images(2, size)
    before = image.clone()
    feature = encoder(image)
    assert feature.shape == (2, 12)
    assert feature.dtype == torch.float32
    assert feature.isfinite().all()
    assert (encoder.num_features, encoder.image_size, encoder.layers[-1]) == (12, size, "latent")
    assert torch.equal(image, before)


def test_every_parameter_gets_a_gradient(build):
    encoder = build(image_size=32)
    encoder(images(8, 32)).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    # a bias in front of batch normalisation is cancelled by it: its gradient is there, and zero up to rounding
    cancelled = [name for name in gradients if name.startswith("conv") and name.endswith(".0.bias")]
    assert all(gradients[name].abs().max() > 0 for name in gradients if name not in cancelled)
    assert len(cancelled) == (5 if encoder.name == "cnn" else 0)


def test_a_row_is_independent_of_its_neighbours(build):
    encoder = build(image_size=32)
    encoder(images(8, 32, seed=1))  # running statistics of their own
    encoder.eval()
    image = images(4, 32)
    with torch.inference_mode():
        together = encoder(image)
        image[1:] = 0
        torch.testing.assert_close(encoder(image)[0], together[0], rtol=1e-5, atol=1e-6)


def test_layers_are_what_hooks_see(build):
    encoder, image = build(image_size=32).eval(), images(2, 32)
    outputs = {}
    at = {"latent": "project", "pooled": "avgpool", "stem": "maxpool"} if encoder.name == "resnet18" else {}
    for layer in encoder.layers:
        encoder.get_submodule(at.get(layer, layer)).register_forward_hook(
            lambda module, arguments, output, layer=layer: outputs.update({layer: output.detach().clone()})
        )
    encoder(image)
    expected, seen = dict(outputs), set()
    assert list(expected) == list(encoder.layers)
    for layer in encoder.layers:
        outputs.clear()
        assert torch.equal(encoder.forward_layer(image, layer), expected[layer])
        seen.add(layer)
        assert set(outputs) == seen  # and nothing behind it


def test_the_seed_decides_the_weights(build):
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build(image_size=32).state_dict())
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_layout_and_precision_change_nothing_but_rounding(build):
    encoder, image = build(image_size=32).eval(), images(4, 32)
    plain = encoder(image)
    other = encoder.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder(image)
    assert half.dtype == torch.bfloat16
    assert half.isfinite().all()
    torch.testing.assert_close(half.float(), plain, rtol=0.1, atol=0.05)


def test_training_under_autocast_is_finite(build):
    encoder = build(image_size=32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = encoder(images(8, 32)).float().square().mean()
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 8}, "image_size must be >= 16, got 8"),
        ({"width": 0}, "width must be > 0, got 0"),
        ({"latent_dim": 0}, "latent_dim must be >= 1, got 0"),
    ],
)
def test_options_out_of_range(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
