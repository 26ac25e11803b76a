"""Cutting torchvision's networks: against the networks themselves, and against misuse."""

import copy

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from pretext.encoders.fcn import build_simplenet5
from pretext.encoders.resnet import build_resnet18
from pretext.errors import ConfigError, UnknownVariantError
from pretext.perceptual import FeatureNetwork, build_network
from pretext.perceptual.cutting import PLAIN, cut_network
from pretext.perceptual.networks import IMAGENET_MEAN, IMAGENET_SD, _Own, default_taps


def images(count=2, side=64, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def normalised(image01_BCHW):
    mean, sd = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_SD)[:, None, None]
    return (image01_BCHW - mean) / sd


def build(*layers, name="squeezenet1_1", **options):
    return build_network(name, layers=layers, weights="random", **options)


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "googlenet", "efficientnet_b0"])
def test_random_features_are_those_of_torchvisions_own_network(name):
    network = build_network(name, layers=["1", "2", "3", "4"], weights="random", seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        whole = get_model(name, weights=None, **PLAIN.get(name, {})).eval()
    calls = {}
    for node in network.facts["nodes"]:
        # a copy at once, since what follows may change it in place; only the first call of a module used twice counts
        whole.get_submodule(node).register_forward_hook(
            lambda _, __, out, node=node: calls.setdefault(node, out.clone())
        )
    with torch.no_grad():
        whole(normalised(images()))
        found = network(images())
    for node, value in zip(network.facts["nodes"], found, strict=True):
        torch.testing.assert_close(value, calls[node], rtol=1e-5, atol=1e-5)


def test_a_layer_is_not_changed_by_the_layers_behind_it():
    before, after = build("features.0", "features.1")(images())
    assert (before < 0).any()  # torchvision's ReLU would have overwritten it
    assert torch.equal(after, before.relu())
    norm, rest = build("layer1.0.bn2", "layer1", name="resnet18")(images())
    torch.testing.assert_close(norm, build("layer1.0.bn2", name="resnet18")(images())[0])
    torch.testing.assert_close(rest, build("2", name="resnet18")(images())[0])


def test_layers_may_be_numbers_or_nodes_in_any_order_and_twice():
    three, node, one = build("3", "features.7", "1")(images())
    assert torch.equal(three, node)
    assert torch.equal(one, build("1")(images())[0])


def test_a_vector_is_a_map_of_one_place():
    network = build("avgpool", "flatten", name="resnet18")
    mean, vector = network(images())
    assert vector.shape == (2, 512, 1, 1)
    assert network.channels == (512, 512)
    assert torch.equal(mean, vector)


def test_random_weights_are_of_their_seed_whichever_layers_are_asked_for():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one, two, other = build("1", seed=5), build("1", "4", seed=5), build("1", seed=6)
    assert torch.equal(torch.rand(1), expected)  # the caller's random numbers are as they would have been
    assert torch.equal(one(images())[0], two(images())[0])
    assert not torch.equal(one(images())[0], other(images())[0])
    assert one.facts["fingerprint"] != other.facts["fingerprint"]
    assert one.facts == build("1", seed=5).facts


def test_only_what_is_in_front_of_the_last_layer_is_kept():
    numbers = sum(value.numel() for value in build("1")._inner.parameters())
    assert numbers == 64 * 3 * 9 + 64


def test_normalising_is_by_the_training_sets_mean_and_deviation():
    wanted = images()
    image = wanted * torch.tensor(IMAGENET_SD)[:, None, None] + torch.tensor(IMAGENET_MEAN)[:, None, None]
    torch.testing.assert_close(build("1")(image), build("1", normalize="none")(wanted))


def test_an_image_is_not_changed_without_normalisation_either():
    batch = images()
    before = batch.clone()
    build("4", normalize="none")(batch)
    assert torch.equal(batch, before)


def test_it_computes_in_float32_whatever_is_around_it():
    network = build("2")
    expected = network(images())[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(images())[0], expected)
    holder = nn.Sequential(network).to(torch.bfloat16)
    assert torch.equal(network(images())[0], expected)
    assert holder(images().bfloat16())[0].dtype == torch.float32


def test_it_moves_with_the_module_that_holds_it():
    holder = nn.ModuleDict({"network": build("2")}).to(memory_format=torch.channels_last)
    assert all(
        value.is_contiguous(memory_format=torch.channels_last)
        for value in holder["network"]._inner.parameters()
        if value.ndim == 4
    )
    holder.to("meta")
    inner = holder["network"]._inner
    assert {value.device.type for value in (*inner.parameters(), *inner.buffers())} == {"meta"}


def test_a_copy_gives_the_same():
    network = build("2")
    assert torch.equal(copy.deepcopy(network)(images())[0], network(images())[0])


def test_it_compiles_into_one_graph():
    network = build("1", "2")
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    assert all(torch.equal(one, two) for one, two in zip(compiled(images()), network(images()), strict=True))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (images() * 255, r"image must be in 0..1, got [\d.e-]+..25"),
        (images() * 2 - 1, r"image must be in 0..1, got -1..0.9999"),
        (images()[0], r"image must be \(B, 3, H, W\), got \(3, 64, 64\)"),
        (images()[:, :1], r"image must be \(B, 3, H, W\), got \(2, 1, 64, 64\)"),
        ((images() * 255).to(torch.uint8), "image must be float in 0..1, got torch.uint8"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        build("1")(image)


def test_rounding_beyond_the_range_and_a_diverged_training_are_no_wrong_range():
    network = build("1")
    network(images() * 1.0005)
    assert network(images() * float("nan"))[0].isnan().all()


@pytest.mark.parametrize(("layers", "smallest"), [(["1"], 3), (["4"], 17)])
def test_too_small_an_image_is_told_the_smallest(layers, smallest):
    network = build(*layers)
    network(images(side=smallest))
    with pytest.raises(
        ValueError, match=rf"at least {smallest} px high and wide for squeezenet1_1 .*got \(20, {smallest - 1}\)"
    ):
        network(images(side=20)[..., : smallest - 1])


@pytest.mark.parametrize("layer", ["0", "5", "features.13", "feature", "-1", ""])
def test_an_unknown_layer_is_told_what_there_is(layer):
    with pytest.raises(
        ConfigError, match=rf"--layer '{layer}' is no layer of squeezenet1_1; it has 1 to 4 and .*features.1"
    ):
        build("1", layer)


def test_unknown_networks_weights_and_normalisations_are_refused():
    with pytest.raises(UnknownVariantError, match="did you mean 'vgg16'"):
        build_network("vgg-16", layers=["1"])
    with pytest.raises(ValueError, match="weights must be imagenet or random, got 'none'"):
        build_network("vgg16", layers=["1"], weights="none")
    with pytest.raises(ValueError, match="normalize must be imagenet or none, got 'own'"):
        build_network("vgg16", layers=["1"], normalize="own")
    with pytest.raises(ValueError, match="layers must be a list"):
        build_network("vgg16", layers=[])


def test_default_taps_are_those_of_lpips_and_else_the_four_layers():
    taps = {
        name: cut_network(name, default_taps(name))[1]
        for name in ("alexnet", "vgg16", "squeezenet1_1", "squeezenet1_0")
    }
    assert taps["alexnet"] == [64, 192, 384, 256, 256]
    assert taps["vgg16"] == [64, 128, 256, 512, 512]
    assert taps["squeezenet1_1"] == [64, 128, 256, 384, 384, 512, 512]
    assert taps["squeezenet1_0"] == [96, 128, 256, 384, 384, 512, 512]
    assert default_taps("resnet50") == ("1", "2", "3", "4")


@pytest.mark.parametrize("layers", [("layer2", "stem", "latent"), ("pooled",)])
def test_an_own_encoders_layers_are_its_own(layers):
    torch.manual_seed(0)
    encoder = build_resnet18(image_size=64, width=0.125, latent_dim=16).eval()
    with torch.no_grad():
        expected = [encoder.forward_layer(images(), layer) for layer in layers]
        found = FeatureNetwork("run", layers, [1] * len(layers), {}, _Own(encoder, layers))(images())
    for one, two in zip(found, expected, strict=True):
        assert torch.equal(one.flatten(1), two.flatten(1))
        assert one.ndim == 4


def test_gradients_reach_the_image_through_an_encoder_that_sees_lab_with_two_networks():
    torch.manual_seed(0)
    encoder = build_simplenet5(image_size=64, width=0.5, channels=("L", "ab"))
    layers = (encoder.layers[0], encoder.code_layer)
    network = FeatureNetwork("run", layers, (1, 1), {}, _Own(encoder, layers))
    image = images().requires_grad_()
    found = network(image)
    with torch.no_grad():
        for value, layer in zip(found, layers, strict=True):
            assert torch.equal(value, encoder.forward_layer(images(), layer))
    sum(value.square().mean() for value in found).backward()
    assert image.grad.isfinite().all()
    assert (image.grad.abs().sum((2, 3)) > 0).all()
