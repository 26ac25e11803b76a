"""What holds for every encoder built here. Run alone: pytest tests/unit/encoders/test_builders.py."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from pretext.encoders import (
    build_alexnet_fcn,
    build_cnn,
    build_conv4,
    build_resnet18,
    build_resnet18_fcn,
    build_simplenet5,
    build_simplenet13,
)

BUILDERS = {
    "cnn": partial(build_cnn, latent_dim=12),
    "resnet18-3x3": partial(build_resnet18, latent_dim=12),
    "resnet18-7x7": partial(build_resnet18, latent_dim=12, stem="7x7"),
    "conv4": build_conv4,
    "simplenet5": build_simplenet5,
    "simplenet13": partial(build_simplenet13, channels=("L", "ab")),
    "alexnet-10x10": partial(build_alexnet_fcn, channels=("R", "GB")),
    "alexnet-11x11": partial(build_alexnet_fcn, stem="11x11"),
    "resnet18-fcn": partial(build_resnet18_fcn, channels=("Lab",)),
}
SIZES = [16, 32, 48, 64, 96, 128]
# without padding, this one's convolutions want more than the others'
SIDES = {"simplenet5": 48}
WIDTHS = {"alexnet-10x10": 0.03125, "alexnet-11x11": 0.03125, "simplenet13": 0.0625}


@pytest.fixture(params=BUILDERS)
def build(request):
    name = request.param
    return partial(BUILDERS[name], width=WIDTHS.get(name, 0.125), image_size=SIDES.get(name, 32))


@pytest.fixture
def encoder(build):
    torch.manual_seed(0)
    return build()


def images(count, size, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "size"), [(name, size) for name in BUILDERS for size in SIZES if size >= SIDES.get(name, 16)]
)
def test_shapes(name, size):
    encoder = BUILDERS[name](image_size=size, width=WIDTHS.get(name, 0.125)).eval()
    image = images(2, size)
    before = image.clone()
    with torch.inference_mode():
        feature = encoder(image)
    assert feature.shape == (2, encoder.num_features)
    assert feature.dtype == torch.float32
    assert feature.isfinite().all()
    assert (encoder.image_size, encoder.layers[-1]) == (size, "latent")
    assert torch.equal(image, before)


def cancelled_biases(encoder):
    """Biases in front of batch normalisation, which takes the mean off again."""
    for name, block in encoder.named_modules():
        children = list(block.named_children()) if isinstance(block, nn.Sequential) else []
        for (key, first), (_, second) in pairwise(children):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d) and first.bias is not None:
                yield f"{name}.{key}.bias"


def test_every_parameter_gets_a_gradient(encoder):
    encoder(images(8, encoder.image_size)).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    # the gradient of a cancelled bias is there, and zero up to rounding
    cancelled = set(cancelled_biases(encoder))
    assert [name for name in gradients if name not in cancelled and not gradients[name].abs().max() > 0] == []
    expected = {"cnn": 5, "simplenet5": 4, "simplenet13": 2 * 13, "alexnet-fcn": 7 * len(getattr(encoder, "parts", ""))}
    assert len(cancelled) == expected.get(encoder.name, 0)


def test_a_row_is_independent_of_its_neighbours(encoder):
    size = encoder.image_size
    encoder(images(8, size, seed=1))  # running statistics of their own
    encoder.eval()
    image = images(4, size)
    with torch.inference_mode():
        together = encoder(image)
        image[1:] = 0
        torch.testing.assert_close(encoder(image)[0], together[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["cnn", "resnet18-3x3", "resnet18-7x7", "conv4"])
def test_layers_are_what_hooks_see(name):
    encoder, image = BUILDERS[name](image_size=32, width=0.125).eval(), images(2, 32)
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
        states.append(build().state_dict())
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_layout_and_precision_change_nothing_but_rounding(encoder):
    encoder, image = encoder.eval(), images(4, encoder.image_size)
    plain = encoder(image)
    other = encoder.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encoder(image)
    assert half.dtype == torch.bfloat16
    assert half.isfinite().all()
    torch.testing.assert_close(half.float(), plain, rtol=0.1, atol=0.05)


def test_training_under_autocast_is_finite(encoder):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = encoder(images(8, encoder.image_size)).float().square().mean()
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 8}, "image_size must be .*(>= 16|>= 36|multiple of 16), got 8"),
        ({"image_size": 0}, "image_size must be .*(>= 16|>= 36|multiple of 16), got 0"),
        ({"width": 0}, "width must be > 0, got 0"),
    ],
)
def test_options_out_of_range(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize("name", ["cnn", "resnet18-3x3", "resnet18-7x7"])
def test_latent_dim_out_of_range(name):
    with pytest.raises(ValueError, match="latent_dim must be >= 1, got 0"):
        BUILDERS[name](latent_dim=0)
