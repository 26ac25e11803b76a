"""Rows of the part `color` on a few images; both ways must agree, or measuring itself fails."""

import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from pretext.bench import color as module
from pretext.color import build_lab
from pretext.training.device import Compute

CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture
def few(monkeypatch):
    for name, value in {"BATCH": 3, "PLAIN_BATCH": 2, "SIDE": 24, "SECONDS": 0}.items():
        monkeypatch.setattr(module, name, value)


def test_rows_are_finite_and_named_once(few):
    rows = list(module.measure(CPU))
    assert len({row.what for row in rows}) == len(rows) == 7
    for row in rows:
        assert (row.part, row.unit) == ("color", "images")
        assert all(0 < value < math.inf for value in (row.per_s, row.against_per_s, row.ratio))


def test_bytes_to_lab_has_the_goal_and_its_bytes(few):
    goals = {row.what: (row.goal, row.bytes_each) for row in module.measure(CPU) if row.goal is not None}
    assert goals == {f"uint8 {layout} to Lab": (5, 24 * 24 * (3 + 12)) for layout in ("H x W x 3", "3 x H x W")}


def test_the_plain_bins_are_those_of_the_colour_space():
    lab_HW3 = rgb2lab(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8))
    map_13HW = torch.from_numpy(lab_HW3).permute(2, 0, 1)[None]
    assert np.array_equal(module.digitize(lab_HW3), build_lab().encode(map_13HW)[0].numpy())


def test_ways_that_differ_are_not_measured(few, monkeypatch):
    monkeypatch.setattr(module, "rgb2lab", lambda image: rgb2lab(image) + 0.01)
    with pytest.raises(AssertionError, match="apart"):
        next(module.measure(CPU))
