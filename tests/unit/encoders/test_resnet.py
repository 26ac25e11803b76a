"""The residual encoder against torchvision's. Run alone: pytest tests/unit/encoders/test_resnet.py."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from pretext.encoders import build_resnet18


@pytest.fixture(scope="module")
def torchvision_net():
    torch.manual_seed(0)
    return resnet18(weights=None).eval()


def shapes(state):
    return {name: tuple(value.shape) for name, value in state.items()}


def test_body_keys_and_shapes_are_torchvision_s(torchvision_net):
    theirs = {name: shape for name, shape in shapes(torchvision_net.state_dict()).items() if not name.startswith("fc.")}
    ours = {
        name: shape
        for name, shape in shapes(build_resnet18(stem="7x7").state_dict()).items()
        if not name.startswith("project.")
    }
    assert ours == theirs
    assert len(ours) == 120


def test_maps_are_torchvision_s_with_its_weights(torchvision_net):
    encoder = build_resnet18(stem="7x7", image_size=64).eval()
    state = {name: value for name, value in torchvision_net.state_dict().items() if not name.startswith("fc.")}
    missing, unexpected = encoder.load_state_dict(state, strict=False)
    assert missing == ["project.weight", "project.bias"]
    assert not unexpected
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    nodes = {"maxpool": "stem", "layer1": "layer1", "layer2": "layer2", "layer3": "layer3", "layer4": "layer4"}
    with torch.inference_mode():
        for layer, expected in create_feature_extractor(torchvision_net, nodes)(image).items():
            torch.testing.assert_close(encoder.forward_layer(image, layer), expected, rtol=1e-5, atol=1e-5)


def test_small_image_stem():
    encoder = build_resnet18().eval()
    assert tuple(encoder.conv1.weight.shape) == (64, 3, 3, 3)
    assert encoder.conv1.stride == (1, 1)
    assert (encoder.name, encoder.num_features, encoder.project.in_features) == ("resnet18", 1024, 4608)
    image = torch.zeros(1, 3, 96, 96)
    maps = {name: tuple(encoder.forward_layer(image, name).shape[1:]) for name in encoder.layers}
    assert maps == {
        "stem": (64, 48, 48),
        "layer1": (64, 48, 48),
        "layer2": (128, 24, 24),
        "layer3": (256, 12, 12),
        "layer4": (512, 6, 6),
        "pooled": (512, 3, 3),
        "latent": (1024,),
    }


def test_width_scales_channels():
    encoder = build_resnet18(width=0.25)
    assert encoder.conv1.out_channels == 16
    assert encoder.project.in_features == 128 * 9


def test_unknown_stem_lists_the_known():
    with pytest.raises(ValueError, match="stem must be one of 3x3, 7x7, got '5x5'"):
        build_resnet18(stem="5x5")
