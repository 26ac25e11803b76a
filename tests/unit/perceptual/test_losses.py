"""Losses in a network's features: LPIPS against torchmetrics, and what their builders make of options."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchmetrics.functional.image.lpips import _LPIPS

from pretext.errors import AbsentWeightsError, ArtifactError, ConfigError
from pretext.perceptual.distances import feature_distance
from pretext.perceptual.fitted import Fitted, write_fitted
from pretext.perceptual.losses import (
    LPIPSLoss,
    NoReferenceLoss,
    PerceptualLoss,
    build_lpips,
    build_no_reference,
    build_perceptual,
)
from pretext.perceptual.networks import build_network
from pretext.perceptual.quality import find_quality

SHORT = {"alexnet": "alex", "squeezenet1_1": "squeeze", "vgg16": "vgg"}
RANDOM = {"loss_network": "squeezenet1_1", "loss_network_weights": "random", "offline": True}


def pair(size=64, batch=2):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, 3, size, size, generator=generator)
    return x, (x + 0.3 * torch.randn(x.shape, generator=generator)).clamp(0, 1)


@pytest.fixture(scope="module")
def network():
    return build_network("squeezenet1_1", layers=("1", "2"), weights="random")


@pytest.fixture
def small_vgg16(monkeypatch):
    """Its 120 million weights behind the convolutions are not looked at, and take seconds to draw."""
    full = torchvision.models.vgg16
    monkeypatch.setattr(torchvision.models, "vgg16", lambda weights: full(weights=weights, init_weights=False))
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda _: None)


def reference_lpips(name, folder):
    """torchmetrics' LPIPS with a random network and the published weights of channels, both written to files too."""
    torch.manual_seed(0)
    reference = _LPIPS(pretrained=True, pnet_rand=True, net=SHORT[name]).eval()
    state = reference.state_dict()
    network = {re.sub(r"^net\.slice(?:s\.)?\d+\.", "features.", key): tensor
               for key, tensor in state.items() if key.startswith("net.")}  # fmt: skip
    save_file(network, folder / f"{name}-features.safetensors")
    channels = {key: tensor for key, tensor in state.items() if re.match(r"lin\d", key)}
    save_file(channels, folder / f"lpips-{SHORT[name]}-v0.1.safetensors")
    return reference


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.usefixtures("small_vgg16")
def test_lpips_is_torchmetrics_lpips_image_by_image_and_in_its_gradient(name, tmp_path):
    reference = reference_lpips(name, tmp_path)
    loss = build_lpips(loss_network=name, weights_dir=tmp_path, offline=True)
    x, y = pair()
    x.requires_grad_()
    expected = reference(x, y, normalize=True).flatten()
    found = loss.distance(loss.network(x), loss.network(y))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert (expected > 1e-4).all()
    value = loss(x, y)
    torch.testing.assert_close(value, expected.mean(), rtol=1e-5, atol=1e-7)
    gradient, expected_gradient = (torch.autograd.grad(v, x)[0] for v in (value, expected.mean()))
    assert (gradient - expected_gradient).norm() < 1e-5 * expected_gradient.norm()


def test_a_perceptual_loss_weighs_layers_and_adds_pixels(network):
    x, y = pair()
    layers = [(a - b).square().mean() for a, b in zip(network(x), network(y), strict=True)]
    loss = PerceptualLoss(network, layer_weights=(2, 0.5), pixel="mse", pixel_weight=3)
    expected = 2 * layers[0] + 0.5 * layers[1] + 3 * (x - y).square().mean()
    torch.testing.assert_close(loss(x, y), expected, rtol=1e-5, atol=0)
    assert set(loss.terms_of(x, y)) == {"features", "mse"}


def test_the_added_pixel_loss_has_the_catalogue_s_defaults(network):
    x, y = pair()
    loss = PerceptualLoss(network, pixel="pse", pixel_weight=1)
    alone = feature_distance(network(x), network(y)).mean()
    assert loss.pixel.sigma == 4
    torch.testing.assert_close(loss(x, y), alone + loss.pixel(x, y))


@pytest.mark.parametrize("weights", [(1,), (1, 1, 1), (1, -1)])
def test_layer_weights_must_be_one_a_layer(network, weights):
    with pytest.raises(ValueError, match="layer_weights must be 2 numbers >= 0"):
        PerceptualLoss(network, layer_weights=weights)


def test_weights_below_0_are_refused(network):
    with pytest.raises(ValueError, match="pixel_weight must be >= 0"):
        PerceptualLoss(network, pixel="mse", pixel_weight=-1)
    with pytest.raises(ValueError, match="quality_weight must be >= 0"):
        NoReferenceLoss(Brightness(), LPIPSLoss(network, weights=None), quality_weight=-1)


def test_build_perceptual_hands_every_option_on():
    x, y = pair()
    loss = build_perceptual(**RANDOM, normalize="none", pixel_loss="l1", pixel_weight=0.1, layer=("1", "3"),
                            layer_weights=(1, 2), seed=3)  # fmt: skip
    network = build_network("squeezenet1_1", layers=("1", "3"), weights="random", normalize="none", seed=3)
    expected = feature_distance(network(x), network(y), (1, 2)).mean() + 0.1 * (x - y).abs().mean()
    torch.testing.assert_close(loss(x, y), expected)
    assert loss.network.facts == network.facts


def test_published_weights_are_for_published_networks_layers_and_images():
    for options in ({"loss_network": "squeezenet1_0"}, {"loss_network_weights": "random"}, {"normalize": "none"},
                    {"layer": ("1", "2")}):  # fmt: skip
        with pytest.raises(ValueError, match="--channel-weights unit fits every network"):
            build_lpips(**{"loss_network": "squeezenet1_1", "offline": True} | options)


def fit(folder, seed=0):
    """A fit of two layers of a random network, as `fit-metric` writes it."""
    network = build_network("squeezenet1_1", layers=("1", "2"), weights="random", seed=seed)
    weights = [torch.linspace(0, 1, count) for count in network.channels]
    write_fitted(folder / "metric.safetensors", Fitted(network.facts, network.layers, weights), {})
    return network, weights


def test_fitted_weights_bring_their_layers_along(tmp_path):
    network, weights = fit(tmp_path)
    x, y = pair()
    loss = build_lpips(**RANDOM, channel_weights=str(tmp_path / "metric.safetensors"))
    assert loss.network.layers == ("1", "2")
    torch.testing.assert_close(loss(x, y), LPIPSLoss(network, weights=weights)(x, y))


@pytest.mark.parametrize(("options", "found"), [({"seed": 1}, "fingerprint"), ({"normalize": "none"}, "normalize imagenet"),
                                                ({"layer": ("1",)}, "layers 1,2, not 1")])  # fmt: skip
def test_fitted_weights_of_something_else_are_refused(tmp_path, options, found):
    fit(tmp_path)
    with pytest.raises(ValueError, match=f"were fitted to squeezenet1_1 with .*{found}"):
        build_lpips(**RANDOM | options, channel_weights=str(tmp_path / "metric.safetensors"))


def test_a_fit_that_is_not_there_is_an_error_for_people(tmp_path):
    with pytest.raises(ArtifactError, match="does not exist"):
        build_lpips(**RANDOM, channel_weights=str(tmp_path / "nothing"))


def test_weights_of_channels_and_both_networks_move_with_the_loss():
    network = build_network("squeezenet1_1", layers=("1", "2"), weights="random")
    anchor = LPIPSLoss(network, weights=[torch.ones(count) for count in network.channels])
    loss = NoReferenceLoss(nn.Conv2d(3, 1, 1), anchor, quality_weight=1).to("meta")
    assert {weight.device.type for weight in loss.anchor.weights} == {"meta"}
    assert loss.quality._inner.weight.is_meta
    assert all(parameter.is_meta for parameter in network._inner.parameters())


class Brightness(nn.Module):
    """A quality whose mean over a batch is known."""

    def __init__(self, shape=(-1,), lower_better=False):
        super().__init__()
        self.shape, self.lower_better = shape, lower_better

    def forward(self, image01_BCHW):
        assert image01_BCHW.dtype == torch.float32
        return image01_BCHW.mean((1, 2, 3)).reshape(self.shape)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("lower_better", [False, True])
def test_the_quality_is_added_so_that_better_is_lower(network, shape, lower_better):
    x, y = pair()
    anchor = LPIPSLoss(network, weights=None, pixel="l1", pixel_weight=0.2)
    loss = NoReferenceLoss(Brightness(shape, lower_better), anchor, quality_weight=0.5)
    sign = 1 if lower_better else -1
    torch.testing.assert_close(loss(x, y), anchor(x, y) + sign * 0.5 * x.mean())
    assert loss.terms_of(x, y)["quality"].item() == pytest.approx(sign * x.mean().item(), rel=1e-5)
    assert loss.network is network


def test_held_out_measures_stand_beside_the_loss_unless_they_are_trained(network):
    x, y = pair()
    loss = NoReferenceLoss(Brightness(), LPIPSLoss(network, weights=None), quality_weight=1)
    terms = loss.terms_of(x, y)
    assert set(terms) == {"lpips", "quality", "held-out mse", "held-out 1 - ssim"}
    torch.testing.assert_close(terms["held-out mse"], (x - y).square().mean())
    assert set(loss.terms_of(x, x)) == set(terms)
    assert loss.terms_of(x, x)["held-out 1 - ssim"] == 0
    trained = NoReferenceLoss(Brightness(), LPIPSLoss(network, weights=None, pixel="mse"), quality_weight=1)
    assert set(trained.terms_of(x, y)) == {"lpips", "quality", "mse", "held-out 1 - ssim"}


def test_a_quality_must_give_one_score_an_image(network):
    loss = NoReferenceLoss(Brightness((1, -1)), LPIPSLoss(network, weights=None), quality_weight=1)
    with pytest.raises(ValueError, match=r"one score an image, \(B,\) or \(B, 1\), got \(1, 2\)"):
        loss(*pair())


def no_reference(quality):
    return build_no_reference(
        **{**RANDOM, "offline": False}, layer=("1",), channel_weights="unit", quality=quality, quality_weight=0.5
    )


def test_a_quality_of_the_user_s_is_imported_by_name(tmp_path, monkeypatch):
    (tmp_path / "own_quality.py").write_text(
        "import torch\n"
        "class Mean(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.scale = torch.nn.Parameter(torch.tensor(2.0))\n"
        "    def forward(self, image):\n"
        "        return self.scale * image.mean((1, 2, 3))\n"
        "not_a_module = dict\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    x, y = pair()
    loss = no_reference("own_quality:Mean")
    assert loss.terms_of(x, y)["quality"].item() == pytest.approx(-2 * x.mean().item(), rel=1e-5)
    assert not list(loss.parameters())
    with pytest.raises(ConfigError, match="must return a torch module, got dict"):
        no_reference("own_quality:not_a_module")
    with pytest.raises(ConfigError, match="can't be made"):
        no_reference("own_quality:absent")


@pytest.mark.parametrize(("quality", "message"), [(None, "needs --quality"), ("no_such_module:f", "can't be made")])
def test_no_quality_is_an_error_for_people(quality, message):
    with pytest.raises(ConfigError, match=message):
        no_reference(quality)


def test_a_quality_that_would_be_fetched_is_absent_where_that_is_forbidden():
    with pytest.raises(AbsentWeightsError, match="--offline forbids that"):
        find_quality("niqe", offline=True)


def test_without_pyiqa_its_names_are_an_error_that_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(ConfigError, match="not installed") as raised:
        no_reference("niqe")
    assert "pip install pyiqa" in raised.value.hint


def test_pyiqa_s_no_reference_metrics_are_used_with_a_score_for_every_image(monkeypatch):
    def create_metric(name, as_loss, device, loss_reduction):
        assert (as_loss, loss_reduction) == (True, "none")
        assert name in ("niqe", "lpips"), name
        metric = Brightness(lower_better=name == "niqe")
        metric.metric_mode = "NR" if name == "niqe" else "FR"
        return metric

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric))
    x, y = pair()
    assert no_reference("niqe").terms_of(x, y)["quality"].item() == pytest.approx(x.mean().item(), rel=1e-5)
    with pytest.raises(ConfigError, match="needs a reference"):
        no_reference("lpips")
    with pytest.raises(ConfigError, match="no metric of pyiqa"):
        no_reference("unknown")


def test_the_quick_mean_of_a_perceptual_loss_is_the_mean_of_its_distances(network):
    loss = PerceptualLoss(network, layer_weights=[0.5] * len(network.layers))
    generator = torch.Generator().manual_seed(0)
    x, y = (network(torch.rand(3, 3, 48, 48, generator=generator)) for _ in range(2))
    torch.testing.assert_close(loss.mean_distance(x, y), loss.distance(x, y).mean(), rtol=1e-5, atol=0)
