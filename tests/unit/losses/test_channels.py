"""Losses of predicted channels against loops and closed forms."""

import math

import pytest
import torch

from pretext.losses import BinCrossEntropy, HalfSquaredError, bin_cross_entropy, half_squared_error


def logits(dtype=torch.float32, bins=7):
    generator = torch.Generator().manual_seed(0)
    logit = torch.randn(2, bins, 3, 4, generator=generator, dtype=torch.float64)
    return logit.to(dtype), torch.randint(0, bins, (2, 3, 4), generator=generator)


def by_hand(logit, bins, weight=None):
    total = 0.0
    for b in range(logit.shape[0]):
        for y in range(logit.shape[2]):
            for x in range(logit.shape[3]):
                values, true = logit[b, :, y, x].double(), int(bins[b, y, x])
                loss = float(values.exp().sum().log() - values[true])
                total += loss * (1.0 if weight is None else float(weight[true]))
    return total / bins.numel()


@pytest.mark.parametrize("dtype", [torch.int16, torch.int64, torch.uint8])
def test_cross_entropy_is_the_mean_over_places(dtype):
    logit, bins = logits()
    assert float(bin_cross_entropy(logit, bins.to(dtype))) == pytest.approx(by_hand(logit, bins), rel=1e-5)


def test_weights_multiply_each_place_and_not_the_mean():
    logit, bins = logits()
    weight = torch.rand(7, generator=torch.Generator().manual_seed(1))
    assert float(BinCrossEntropy()(logit, bins, weight)) == pytest.approx(by_hand(logit, bins, weight), rel=1e-5)
    assert torch.equal(bin_cross_entropy(logit, bins, torch.ones(7)), bin_cross_entropy(logit, bins))


def test_a_network_that_knows_nothing_scores_the_logarithm_of_the_number_of_bins():
    _, bins = logits(bins=313)
    assert float(bin_cross_entropy(torch.zeros(2, 313, 3, 4), bins)) == pytest.approx(math.log(313), rel=1e-6)


def test_the_best_constant_scores_the_entropy_of_the_bins():
    _, bins = logits()
    share = torch.bincount(bins.flatten(), minlength=7) / bins.numel()
    constant = share.clamp_min(1e-30).log()[None, :, None, None].expand(2, 7, 3, 4)
    entropy = -float(torch.special.xlogy(share, share).sum())
    assert float(bin_cross_entropy(constant, bins)) == pytest.approx(entropy, rel=1e-5)


def test_half_the_squared_distance():
    prediction = torch.tensor([[[[1.0]], [[2.0]]]])
    target = torch.tensor([[[[4.0]], [[6.0]]]])
    assert float(HalfSquaredError()(prediction, target)) == 12.5
    assert float(half_squared_error(target, target)) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients(dtype):
    logit, bins = logits(torch.float64)
    assert torch.autograd.gradcheck(lambda value: bin_cross_entropy(value, bins), logit.requires_grad_())
    assert bin_cross_entropy(logit.to(dtype), bins).dtype == dtype


def test_under_autocast_the_loss_is_computed_in_float32():
    logit, bins = logits(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = bin_cross_entropy(logit, bins)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(by_hand(logit, bins), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: bin_cross_entropy(torch.zeros(2, 5, 3, 4), torch.zeros(2, 3, 3, dtype=torch.long)), r"\(2, 3, 3\)"),
        (lambda: bin_cross_entropy(torch.zeros(2, 5, 3), torch.zeros(2, 3, dtype=torch.long)), r"\(2, 5, 3\)"),
        (lambda: bin_cross_entropy(torch.zeros(2, 5, 3, 4), torch.zeros(2, 3, 4)), "float32"),
        (lambda: half_squared_error(torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 3, 3)), r"\(1, 1, 3, 3\)"),
        (lambda: BinCrossEntropy(rebalance=1.5), "0..1, got 1.5"),
    ],
)
def test_bad_arguments(call, text):
    with pytest.raises(ValueError, match=text):
        call()
