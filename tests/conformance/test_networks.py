"""What every network of the catalogue must do as a measure of images; a new row is tested by standing there."""

from __future__ import annotations

import copy

import pytest
import torch

from pretext.catalog import NETWORKS
from pretext.perceptual import build_network, networks

LAYERS = ("1", "2", "3", "4")
VGG = [(64, 96), (128, 48), (256, 24), (512, 6)]
RESIDUAL = [(64, 48), (256, 24), (512, 12), (2048, 3)]
# Channels and side of the four layers of the 14 networks on 96 px, arXiv:2302.04032 (its published code), and of
# SqueezeNet 1.0, which it does not have.
SHAPES = {
    "alexnet": [(64, 23), (192, 11), (384, 5), (256, 5)],
    "vgg11": VGG, "vgg16": VGG, "vgg16_bn": VGG, "vgg19": VGG,
    "densenet121": [(64, 48), (256, 24), (512, 12), (1024, 3)],
    "resnet18": [(64, 48), (64, 24), (128, 12), (512, 3)],
    "resnet50": RESIDUAL, "resnext50_32x4d": RESIDUAL,
    "googlenet": [(64, 48), (256, 12), (512, 6), (1024, 3)],
    "inception_v3": [(64, 45), (256, 9), (288, 9), (768, 4)],
    "squeezenet1_0": [(96, 45), (128, 22), (256, 11), (512, 5)],
    "squeezenet1_1": [(64, 47), (128, 23), (256, 11), (512, 5)],
    "efficientnet_b0": [(32, 48), (16, 48), (80, 6), (320, 3)],
    "efficientnet_b7": [(64, 48), (32, 48), (160, 6), (640, 3)],
}  # fmt: skip


def quick_tensors(name, needed, seed):
    """Weights of about the usual size; torchvision would also draw its classifiers, ten times as many numbers."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor):
        if not tensor.is_floating_point():
            return torch.zeros(tensor.shape, dtype=tensor.dtype)
        value = torch.rand(tensor.shape, generator=generator)
        return value + 0.5 if tensor.ndim < 2 else (value - 0.5) * (12 / tensor[0].numel()) ** 0.5

    return {key: draw(tensor) for key, tensor in needed.items()}


@pytest.fixture(scope="module", params=list(NETWORKS))
def network(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "random_tensors", quick_tensors)
        yield build_network(request.param, layers=LAYERS, weights="random")


def images(count=2, side=76, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_the_layers_have_the_published_shapes_in_their_order(network):
    with torch.no_grad():
        features = network(images(1, side=96))
    assert network.layers == LAYERS
    assert [value.shape for value in features] == [(1, channel, side, side) for channel, side in SHAPES[network.name]]
    assert network.channels == tuple(channel for channel, _ in SHAPES[network.name])
    assert all(value.dtype == torch.float32 and value.isfinite().all() and value.std() > 0 for value in features)


def test_the_image_is_not_changed_and_gets_a_gradient_that_the_network_does_not(network):
    batch = images(1)
    before = batch.clone()
    batch.requires_grad_()
    torch.stack([value.square().mean().log() for value in network(batch)]).sum().backward()
    assert torch.equal(batch, before)
    assert batch.grad.isfinite().all()
    assert batch.grad.abs().sum() > 0
    assert not list(network.parameters())
    assert all(not p.requires_grad and p.grad is None for p in network._inner.parameters())


def test_it_is_in_eval_mode_for_ever_and_judges_every_image_alone(network):
    module = torch.nn.Sequential(network).train()
    assert not any(part.training for part in network._inner.modules())
    assert not module.state_dict()
    batch = images(2)
    other = torch.stack([images(1, seed=9)[0], batch[0]])
    before = [tensor.clone() for tensor in network._inner.buffers()]
    with torch.no_grad():
        here, there = module(batch), module(other)
    for one, two in zip(here, there, strict=True):
        torch.testing.assert_close(one[0], two[1], rtol=1e-4, atol=1e-4 * one.abs().max().item())
    assert all(torch.equal(one, two) for one, two in zip(before, network._inner.buffers(), strict=True))


def test_that_it_works_in_place_is_seen_by_nobody(network):
    plain = copy.deepcopy(network)
    graph = plain._inner.graph
    parts = [part for part in graph.modules() if hasattr(part, "inplace")]
    calls = [node for node in graph.graph.nodes if "inplace" in node.kwargs]
    assert any(part.inplace for part in parts) or any(node.kwargs["inplace"] for node in calls)
    for part in parts:
        part.inplace = False
    for node in calls:
        node.kwargs = {**node.kwargs, "inplace": False}
    graph.recompile()
    found = []
    for one in (network, plain):
        batch = images(1).requires_grad_()
        features = one(batch)
        torch.stack([value.square().mean().log() for value in features]).sum().backward()
        found.append([*features, batch.grad])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_facts_tell_which_network_it_is(network):
    facts = network.facts
    assert facts["network"] == network.name
    assert facts["nodes"] == list(NETWORKS[network.name].fixed["nodes"])
    assert (facts["weights"], facts["normalize"], facts["saw"]) == ("random", "imagenet", None)
    assert facts["fingerprint"].startswith("sha256:")
