"""What every loss of the catalogue that compares images must do."""

from __future__ import annotations

import pytest
import torch

from pretext.catalog import LOSSES, PIXEL_LOSSES


@pytest.fixture(params=PIXEL_LOSSES)
def row(request):
    return LOSSES[request.param]


@pytest.fixture
def loss(row):
    return row.load()(**row.fixed, **row.reads)


def pair(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(2, 3, 32, 32, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))


def test_there_are_losses():
    assert len(PIXEL_LOSSES) >= 5


def test_it_is_a_finite_scalar_with_a_finite_gradient(loss):
    prediction, target = pair()
    prediction.requires_grad_()
    value = loss(prediction, target)
    value.backward()
    assert value.shape == ()
    assert torch.isfinite(value)
    assert torch.isfinite(prediction.grad).all()
    assert prediction.grad.abs().sum() > 0


def test_the_truth_is_the_best_prediction(loss):
    prediction, target = pair()
    best = loss(target, target)
    assert best <= loss(prediction, target)
    for step in (0.01, 0.1):
        assert best <= loss((target + step * (prediction - target)).clamp(0, 1), target) + 1e-7


def test_the_gradient_on_equal_images_is_finite(loss):
    target = next(iter(pair())).requires_grad_()
    loss(target, target.detach().clone()).backward()
    assert torch.isfinite(target.grad).all()


def test_a_batch_is_the_mean_of_its_images(loss):
    prediction, target = pair()
    alone = torch.stack([loss(prediction[i : i + 1], target[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(loss(prediction, target), alone.mean(), rtol=1e-5, atol=1e-7)


def test_bf16_images_are_compared_in_float32(loss):
    prediction, target = pair(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(prediction, target)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(prediction.float(), target.float()), rtol=1e-5, atol=1e-7)


def test_it_holds_no_state(loss):
    assert not loss.state_dict()


def test_shapes_must_agree(loss):
    prediction, target = pair()
    with pytest.raises(ValueError, match=r"\(2, 3, 32, 16\)"):
        loss(prediction, target[..., :16])
