"""What every loss must do that compares images in a network's features; weights are random, nothing is downloaded."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pretext.catalog import LOSSES, NETWORK_LOSSES
from pretext.perceptual.losses import NoReferenceLoss

RANDOM = {"loss_network": "squeezenet1_1", "loss_network_weights": "random", "channel_weights": "unit"}
COMPARING = ("perceptual", "lpips")  # no-reference adds an opinion of the prediction alone


class Opinion(nn.Module):
    """A small quality network with everything that differs between training and evaluation."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, image01_BCHW):
        return self.network(image01_BCHW).mean((1, 2, 3))


def opinion():
    torch.manual_seed(0)
    return Opinion()


def build(name, monkeypatch, **given):
    row = LOSSES[name]
    options = row.reads | {option: value for option, value in RANDOM.items() if option in row.reads} | given
    if name == "no-reference":
        monkeypatch.setattr("pretext.perceptual.losses.find_quality", lambda *_, **__: opinion())
    options.pop("features", None)  # of training, not of the loss
    return row.load()(**row.fixed, **options, offline=True, seed=0)


@pytest.fixture(params=NETWORK_LOSSES)
def name(request):
    return request.param


@pytest.fixture
def loss(name, monkeypatch):
    return build(name, monkeypatch)


def pair(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(2, 3, 32, 32, generator=generator).to(dtype) for _ in range(2))


def test_it_is_a_finite_scalar_with_a_finite_gradient_for_the_prediction_alone(loss):
    prediction, target = (image.requires_grad_() for image in pair())
    value = loss(prediction, target)
    value.backward()
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(prediction.grad).all()
    assert prediction.grad.abs().sum() > 0
    assert target.grad is None


@pytest.mark.parametrize("name", COMPARING)
def test_it_is_0_on_equal_images_with_a_finite_gradient_and_more_on_others(loss):
    prediction, target = pair()
    assert loss(prediction, target) > 0
    target.requires_grad_()
    value = loss(target, target.detach().clone())
    value.backward()
    assert value == 0
    assert torch.isfinite(target.grad).all()


@pytest.mark.parametrize("name", COMPARING)
def test_it_is_symmetric(loss):
    prediction, target = pair()
    torch.testing.assert_close(loss(prediction, target), loss(target, prediction), rtol=1e-6, atol=0)


def test_a_batch_is_the_mean_of_its_images(loss):
    prediction, target = pair()
    alone = torch.stack([loss(prediction[i : i + 1], target[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(loss(prediction, target), alone.mean(), rtol=1e-5, atol=1e-6)


def test_bf16_images_are_compared_in_float32(name, monkeypatch):
    loss = build(name, monkeypatch, pixel_loss="mse")
    prediction, target = pair(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(prediction, target)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(prediction.float(), target.float()), rtol=1e-6, atol=0)


def test_it_holds_no_state_and_no_parameters_and_training_mode_changes_nothing(loss):
    prediction, target = pair()
    before = loss(prediction, target)
    parent = nn.ModuleList([loss]).train()
    assert not parent.state_dict()
    assert not list(parent.parameters())
    assert torch.equal(loss(prediction, target), before)
    if isinstance(loss, NoReferenceLoss):
        assert not any(p.requires_grad for p in loss.quality._inner.parameters())


def test_moving_it_to_other_numbers_leaves_its_networks_in_float32(loss):
    prediction, target = pair()
    before = loss(prediction, target)
    torch.testing.assert_close(loss.to(torch.float64, memory_format=torch.channels_last)(prediction, target), before)


def test_features_of_the_target_that_are_known_are_not_computed_again(loss):
    prediction, target = pair()
    known = [feature.half() for feature in loss.network(target)]
    torch.testing.assert_close(loss(prediction, target, known), loss(prediction, target), rtol=1e-2, atol=1e-4)
    calls = []
    loss.network.register_forward_hook(lambda *_: calls.append(1))
    loss(prediction, target, known)
    assert len(calls) == 1


@pytest.mark.parametrize("pixel", [None, "mse", "l1"])
def test_the_terms_add_up_to_the_loss(name, pixel, monkeypatch):
    loss = build(name, monkeypatch, pixel_loss=pixel, pixel_weight=0.3)
    prediction, target = pair()
    terms = loss.terms_of(prediction.requires_grad_(), target)
    weights = {"quality": 0.1, "mse": 0.3, "l1": 0.3}
    trained = [term for term in terms if not term.startswith("held-out")]
    assert len(trained) == 1 + (pixel is not None) + (name == "no-reference")
    total = sum(weights.get(term, 1) * terms[term] for term in trained)
    torch.testing.assert_close(total, loss(prediction, target), rtol=1e-6, atol=1e-7)
    assert not any(terms[term].requires_grad for term in terms.keys() - set(trained))


def test_images_are_not_changed(loss):
    prediction, target = pair()
    kept = prediction.clone(), target.clone()
    loss(prediction, target)
    assert torch.equal(prediction, kept[0])
    assert torch.equal(target, kept[1])


def test_shapes_must_agree_and_numbers_must_be_in_range(loss):
    prediction, target = pair()
    with pytest.raises(ValueError, match=r"\(2, 3, 32, 16\)"):
        loss(prediction, target[..., :16])
    with pytest.raises(ValueError, match="image must be in 0..1"):
        loss(prediction * 2, target)
