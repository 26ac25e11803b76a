"""What every metric of the catalogue must do; networks have random weights, so that nothing is downloaded."""

from __future__ import annotations

import json

import pytest
import torch

from pretext.catalog import METRICS

RANDOM = {"network": "squeezenet1_1", "network_weights": "random", "channel_weights": "unit"}
SIZE = 176  # px; five scales of SSIM need as many


@pytest.fixture(params=list(METRICS), scope="module")
def metric(request, tmp_path_factory):
    row = METRICS[request.param]
    options = row.reads | {name: value for name, value in RANDOM.items() if name in row.reads}
    return row.load()(**row.fixed, **options, weights_dir=tmp_path_factory.mktemp("weights"), offline=True, seed=0)


@pytest.fixture(scope="module")
def pair():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, SIZE, SIZE, generator=generator)
    return x, (x + 0.2 * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def test_there_are_metrics():
    assert len(METRICS) >= 7


def test_it_is_at_least_0_finite_and_one_number_a_pair(metric, pair):
    x, y = pair
    distance = metric.distance(metric.embed(x), metric.embed(y))
    assert distance.shape == (2,)
    assert distance.dtype == torch.float32
    assert torch.isfinite(distance).all()
    assert (distance > 0).all()


def test_equal_images_are_at_distance_0(metric, pair):
    for image in (*pair, torch.zeros(1, 3, SIZE, SIZE), torch.ones(1, 3, SIZE, SIZE)):
        assert metric.distance(metric.embed(image), metric.embed(image.clone())).abs().max() <= 1e-6


def test_it_is_symmetric(metric, pair):
    x, y = (metric.embed(image) for image in pair)
    torch.testing.assert_close(metric.distance(x, y), metric.distance(y, x), rtol=1e-5, atol=1e-7)


def test_a_pair_is_measured_alone(metric, pair):
    x, y = pair
    together = metric.distance(metric.embed(x), metric.embed(y))
    alone = [metric.distance(metric.embed(x[i : i + 1]), metric.embed(y[i : i + 1])) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-7)


def test_more_of_the_same_change_is_further_away(metric, pair):
    x, y = pair
    near, far = (metric.distance(metric.embed(x), metric.embed(x + part * (y - x))) for part in (0.25, 1))
    assert (near < far).all()


def test_images_are_not_changed_and_no_gradient_is_kept(metric, pair):
    x = pair[0].clone().requires_grad_()
    embedded = metric.embed(x)
    assert torch.equal(x, pair[0])
    assert not any(tensor.requires_grad for tensor in embedded)
    assert all(len(tensor) == 2 and tensor.dtype == torch.float32 for tensor in embedded)


def test_its_name_is_a_file_s_and_its_facts_are_json(metric):
    assert json.loads(json.dumps(metric.facts)) == metric.facts
    assert metric.to(torch.device("cpu")) is metric
    assert not list(metric.parameters())
