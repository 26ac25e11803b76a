"""The fully convolutional encoders as published. Run alone: pytest tests/unit/encoders/test_fcn.py."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from pretext import load_encoder
from pretext.artifacts.checkpoint import write_tensors
from pretext.encoders import build_alexnet_fcn, build_resnet18_fcn, build_simplenet5, build_simplenet13

SPLIT = {"channels": ("L", "ab"), "outputs": (100, 100)}
SMALL = {
    "simplenet5": partial(build_simplenet5, width=0.5),
    "simplenet13": partial(build_simplenet13, width=0.0625),
    "alexnet-fcn": partial(build_alexnet_fcn, width=0.03125),
    "alexnet-fcn-11x11": partial(build_alexnet_fcn, width=0.03125, stem="11x11"),
    "resnet18-fcn": partial(build_resnet18_fcn, width=0.125),
}


@pytest.fixture(params=SMALL)
def build(request):
    torch.manual_seed(0)
    return SMALL[request.param]


def images(count=2, size=64, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(build, **options):
    with torch.device("meta"):
        return build(**options)


@pytest.mark.parametrize(
    ("build", "parameters", "published"),
    [
        (build_simplenet5, (389_440, 389_632), "0.8"),
        (build_simplenet13, (5_520_356, 5_520_932), None),
        (build_alexnet_fcn, (72_316_420, 72_326_020), "144.6"),
        (partial(build_alexnet_fcn, stem="11x11"), (58_686_948, 58_698_564), None),
        (build_resnet18_fcn, (3_303_512, 3_306_648), "6.6"),
    ],
)
def test_parameters_as_published(build, parameters, published):
    encoder = on_meta(build, **SPLIT)
    assert tuple(count(part) for part in encoder.parts) == parameters
    assert count(encoder) == sum(parameters)
    if published:
        assert f"{count(encoder) / 1e6:.1f}" == published


def test_totals_to_the_last_published_digit():
    assert count(on_meta(build_simplenet5, **SPLIT)) == 779_072
    assert f"{count(on_meta(build_resnet18_fcn, **SPLIT)) / 1e6:.2f}" == "6.61"


LAYERS = {
    "simplenet5": {"conv1": (12, 48), "conv2": (24, 24), "conv3": (48, 20), "conv4": (96, 16), "logits": (100, 12)},
    "simplenet13": {
        "conv1": (64, 96), "conv2": (128, 96), "conv3": (128, 96), "conv4": (128, 96), "conv5": (128, 48),
        "conv6": (128, 48), "conv7": (256, 48), "conv8": (256, 24), "conv9": (256, 24), "conv10": (512, 12),
        "conv11": (2048, 12), "conv12": (256, 12), "conv13": (256, 12), "logits": (100, 12),
    },
    "alexnet-fcn": {
        "conv1": (96, 45), "conv2": (256, 23), "conv3": (384, 12), "conv4": (384, 12), "conv5": (256, 12),
        "fc6": (4096, 12), "fc7": (4096, 12), "logits": (100, 12),
    },
    "resnet18-fcn": {
        "stem": (64, 24), "layer1": (64, 24), "layer2": (128, 24), "layer3": (256, 24), "logits": (100, 12),
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("simplenet5", build_simplenet5),
        ("simplenet13", build_simplenet13),
        ("alexnet-fcn", build_alexnet_fcn),
        ("alexnet-fcn", partial(build_alexnet_fcn, stem="11x11", image_size=180)),
        ("resnet18-fcn", build_resnet18_fcn),
    ],
)
def test_maps_as_published(name, build):
    encoder = on_meta(build, **SPLIT)
    size, hidden = encoder.image_size, list(LAYERS[name])[:-1]
    assert encoder.name == name
    assert encoder.layers == (*hidden, "latent", "logits")
    assert encoder.output_grid == 12
    for layer, (channels, grid) in LAYERS[name].items():
        parts = encoder.encode_parts(torch.empty(2, 3, size, size, device="meta"), layer)
        assert [tuple(part.shape) for part in parts] == [(2, channels, grid, grid)] * 2
    channels, grid = LAYERS[name][hidden[-1]]
    assert (encoder.code_layer, encoder.code_shape) == (hidden[-1], (2 * channels, grid, grid))
    assert encoder.num_features == 2 * channels
    assert encoder.encode(torch.empty(2, 3, size, size, device="meta")).shape == (2, 2 * channels)


@pytest.mark.parametrize("size", [52, 64, 75, 96, 100])
def test_facts_are_what_is_computed(build, size):
    encoder = build(image_size=size, channels=("R", "GB"), outputs=(7, 5)).eval()
    with torch.inference_mode():
        logits = encoder.encode_parts(images(size=size), "logits")
        assert [part.shape[1] for part in logits] == [7, 5]
        assert {side for part in logits for side in part.shape[2:]} == {encoder.output_grid}
        assert tuple(encoder.encode(images(size=size), encoder.code_layer).shape[1:]) == encoder.code_shape
        assert encoder(images(size=size)).shape == (2, encoder.num_features)


def test_grids_at_64_pixels():
    grids = {name: SMALL[name](image_size=64, outputs=(4,)).output_grid for name in SMALL}
    assert grids == {"simplenet5": 4, "simplenet13": 8, "alexnet-fcn": 8, "alexnet-fcn-11x11": 4, "resnet18-fcn": 8}


@pytest.mark.parametrize("channels", [("L", "ab"), ("R", "GB")])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_sub_network_is_blind_to_the_others_channels(build, channels, mode):
    encoder = build(image_size=64, channels=channels, outputs=(5, 3)).train(mode == "train")
    seen = [{0}, {1, 2}]
    for layer in (encoder.layers[0], encoder.code_layer, "latent", "logits"):
        for number in (0, 1):
            image = images().requires_grad_()
            encoder.encode_parts(image, layer)[number].square().sum().backward()
            for channel in range(3):
                strength = image.grad[:, channel].abs().max()
                assert strength > 0 if channel in seen[number] else strength == 0


def test_block_diagonal_weights_are_a_network_of_two_groups():
    encoder = build_simplenet5(image_size=64, width=0.5, channels=("L", "ab"), outputs=(6, 6)).train()
    one, other = encoder.parts
    layers, joint = [], []
    for number, name in enumerate(one):
        pair = [part[name] if name == "logits" else part[name][0] for part in (one, other)]
        options = {"stride": pair[0].stride, "padding": pair[0].padding}
        if number == 0:  # the groups have different numbers of channels: zeros instead of groups
            convolution = nn.Conv2d(3, 2 * pair[0].out_channels, pair[0].kernel_size, **options)
            weight = torch.zeros_like(convolution.weight)
            weight[: pair[0].out_channels, :1], weight[pair[0].out_channels :, 1:] = pair[0].weight, pair[1].weight
        else:
            shape = (2 * pair[0].in_channels, 2 * pair[0].out_channels, pair[0].kernel_size)
            convolution = nn.Conv2d(*shape, groups=2, **options)
            weight = torch.cat([pair[0].weight, pair[1].weight])
        convolution.load_state_dict({"weight": weight.detach(), "bias": torch.cat([m.bias.detach() for m in pair])})
        layers += [convolution] if name == "logits" else [convolution, nn.BatchNorm2d(weight.shape[0]), nn.ReLU()]
        joint.append(nn.Sequential(*layers))
    for name, network in zip(one, joint, strict=True):
        torch.testing.assert_close(encoder.encode(images(4), name), network(images(4)), rtol=1e-4, atol=1e-5)


def test_residual_maps_are_torchvision_s_without_its_strides():
    torch.manual_seed(0)
    reference = resnet18(weights=None).eval()
    for stage in (reference.layer2, reference.layer3):
        stage[0].conv1.stride = stage[0].downsample[0].stride = (1, 1)
    encoder = build_resnet18_fcn(image_size=64).eval()
    state = {
        key if key.startswith("layer") else f"stem.{key}": value
        for key, value in reference.state_dict().items()
        if not key.startswith(("layer4", "fc"))
    }
    encoder.load_state_dict({f"parts.0.{key}": value for key, value in state.items()})
    nodes = {"maxpool": "stem", "layer1": "layer1", "layer2": "layer2", "layer3": "layer3"}
    with torch.inference_mode():
        for layer, expected in create_feature_extractor(reference, nodes)(images()).items():
            torch.testing.assert_close(encoder.forward_layer(images(), layer), expected, rtol=1e-5, atol=1e-5)


def test_convolution_then_norm_then_relu_and_nothing_behind_the_logits():
    encoder = build_simplenet5(image_size=64, width=0.5, outputs=(9,)).eval()
    convolution = encoder.parts[0]["conv1"][0]
    linear = nn.functional.conv2d(images(), convolution.weight, convolution.bias, stride=2, padding=1)
    torch.testing.assert_close(encoder.encode(images(), "conv1"), linear.clamp_min(0) / (1 + 1e-5) ** 0.5)
    last = encoder.parts[0]["logits"]
    expected = nn.functional.conv2d(encoder.encode(images(), "conv4"), last.weight, last.bias)
    torch.testing.assert_close(encoder.encode(images(), "logits"), expected)
    assert expected.min() < 0 < expected.max()


@pytest.mark.parametrize(
    ("build", "channels"),
    [
        (build_simplenet5, [8, 16, 24, 48]),
        (build_simplenet13, [32, 64, 64, 64, 64, 64, 128, 128, 128, 256, 1024, 128, 128]),
        (build_alexnet_fcn, [48, 128, 192, 192, 128, 2048, 2048]),
        (build_resnet18_fcn, [32, 32, 64, 128]),
    ],
)
def test_half_the_width_is_half_the_channels(build, channels):
    encoder = on_meta(build, width=0.5, outputs=(100,))
    image = torch.empty(2, 3, 96, 96, device="meta")
    maps = [encoder.encode(image, layer) for layer in encoder.layers if layer not in ("latent", "logits")]
    assert [value.shape[1] for value in maps] == channels
    assert encoder.encode(image, "logits").shape[1] == 100


def test_channels_last_stays(build):
    encoder = build(image_size=64, channels=("L", "ab"), outputs=(5, 3)).to(memory_format=torch.channels_last)
    image = images(4).contiguous(memory_format=torch.channels_last)
    for layer in encoder.layers:
        if layer != "latent":
            for part in encoder.encode_parts(image, layer):
                assert part.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["simplenet5", "simplenet13", "alexnet-fcn", "resnet18-fcn"])
def test_saved_and_restored_it_is_the_same(name, tmp_path):
    options = {**SMALL[name].keywords, "image_size": 64, "channels": ["L", "ab"], "outputs": [5, 3]}
    encoder = SMALL[name].func(**options)
    encoder.encode(images(8), "logits")  # running statistics of their own
    encoder.eval()
    file = tmp_path / "checkpoint.safetensors"
    header = {"kind": "pretrain", "encoder": json.loads(json.dumps({"name": name, **options}))}
    write_tensors(file, {f"encoder.{key}": value for key, value in encoder.state_dict().items()}, header)
    restored = load_encoder(file)
    assert (restored.channels, restored.outputs, restored.layers) == (("L", "ab"), (5, 3), encoder.layers)
    with torch.inference_mode():
        for layer in ("latent", "logits"):
            assert torch.equal(restored.forward_layer(images(), layer), encoder.forward_layer(images(), layer))


def test_it_can_be_exported_with_its_colour_conversion():
    encoder = build_simplenet5(image_size=64, width=0.5, channels=("L", "ab"), outputs=(5, 3)).eval()
    program = torch.export.export(encoder, (images(),), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    torch.testing.assert_close(program.module()(images(6)), encoder(images(6)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("outputs", "smallest"), [((), 36), ((9,), 52)])
def test_simplenet5_pads_too_little_for_small_images(outputs, smallest):
    assert build_simplenet5(image_size=smallest, outputs=outputs).code_shape[0] == 96
    with pytest.raises(ValueError, match=f"image_size must be >= {smallest}, got {smallest - 1}"):
        build_simplenet5(image_size=smallest - 1, outputs=outputs)


def test_unknown_stem_lists_the_known():
    with pytest.raises(ValueError, match="stem must be one of 10x10, 11x11, got '7x7'"):
        build_alexnet_fcn(stem="7x7")
