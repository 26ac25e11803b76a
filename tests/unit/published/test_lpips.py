"""Table 5 of the LPIPS paper, and torchvision's accuracies: every cell is there and fits the others."""

from __future__ import annotations

import pytest

from pretext.catalog import NETWORKS
from pretext.published import imagenet
from pretext.published.lpips import COLUMNS, HUMAN, MEANS, SUBSETS, TABLE

CELLS = [(metric, mean) for metric in TABLE for mean in MEANS]


@pytest.mark.parametrize(("metric", "mean"), CELLS)
def test_means_are_those_of_their_sets(metric, mean):
    # Both are rounded to a tenth of a per cent, the paper's means from numbers that were not.
    parts = [TABLE[metric][subset] for subset in MEANS[mean]]
    assert TABLE[metric][mean] == pytest.approx(sum(parts) / len(parts), abs=0.00101)


def test_no_metric_agrees_with_people_more_than_they_do_with_each_other():
    assert all(TABLE[metric][column] <= TABLE[HUMAN][column] for metric in TABLE for column in COLUMNS)


def test_each_metric_has_every_column():
    assert len(TABLE) == 14
    assert all(list(values) == list(COLUMNS) for values in TABLE.values())
    assert set(SUBSETS) | set(MEANS) == set(COLUMNS)


@pytest.mark.parametrize(("metric", "column", "value"), [
    ("L2", "all", 0.632), ("split-brain", "all", 0.675), ("AlexNet, linear", "all", 0.698),
    ("VGG, tuned", "traditional", 0.793), ("SqueezeNet", "superres", 0.701), ("SSIM", "color", 0.581),
])  # fmt: skip
def test_values_are_those_of_the_paper(metric, column, value):
    assert TABLE[metric][column] == pytest.approx(value, abs=1e-12)


def test_accuracies_are_those_that_torchvision_states():
    models = pytest.importorskip("torchvision.models")
    for name, top1 in imagenet.TOP1.items():
        metrics = models.get_model_weights(name).IMAGENET1K_V1.meta["_metrics"]["ImageNet-1K"]
        assert 100 * top1 == pytest.approx(metrics["acc@1"], abs=1e-9), name


def test_every_network_of_the_catalogue_has_an_accuracy():
    assert set(imagenet.TOP1) == set(NETWORKS)
