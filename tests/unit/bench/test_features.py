"""The part `features` at its smallest: every row is finite and positive, and what is compared is the same."""

import math

import numpy as np
import pytest
import torch

from pretext.bench import features
from pretext.training.device import Compute

CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(features, "SIZE", 32)
    monkeypatch.setattr(features, "BATCH", 8)
    monkeypatch.setattr(features, "SECONDS", 0)
    monkeypatch.setattr(features, "WIDTHS", {"cpu": {"cnn": 0.125, "resnet18": 0.125}})
    monkeypatch.setattr(features, "IMAGES", {"cpu": {"cnn": 20, "resnet18": 12}})
    monkeypatch.setattr(features, "PLAIN_IMAGES", {"cpu": 12})
    monkeypatch.setattr(features.world, "cores", lambda: 0)  # no workers


def test_rows(small):
    rows = list(features.measure(CPU))
    assert [row.goal for row in rows] == [0.97, None, 0.97]
    assert len({row.what for row in rows}) == len(rows)
    for row in rows:
        assert (row.part, row.unit) == ("features", "images")
        assert all(math.isfinite(value) and value > 0 for value in (row.per_s, row.against_per_s, row.ratio))
    assert all(row.flops_each > 1e4 and row.arithmetic == "fp32" for row in rows if row.goal)


def test_ways_that_differ_are_found(small, tmp_path, monkeypatch):
    work = features.Extraction("cnn", features.draw_split(tmp_path, 12), CPU, tmp_path)
    monkeypatch.setattr(work, "alone", lambda count: torch.ones(count, work._encoder.num_features))
    with pytest.raises(AssertionError, match="features differ by"):
        features._beside_network("x", work, 12)


def test_both_ways_read_the_same_images(small, tmp_path):
    split = features.draw_split(tmp_path, 3)
    stored01 = features.as_stored(torch.from_numpy(split.images.read(np.arange(3))))
    torch.testing.assert_close(torch.stack([features.PillowImages(split, 3)[i] for i in range(3)]), stored01)
