"""The part `probe` at its smallest: every row is finite and positive, and optima that differ are found."""

import math

import pytest
import torch

from pretext.bench import probe
from pretext.training.device import Compute

CPU = Compute(torch.device("cpu"), "fp32")


@pytest.fixture
def small(monkeypatch):
    for name, value in {"IMAGES": 150, "FEATURES": 60, "FACTORS": 20, "CLASSES": 3, "FOLDS": 3,
                        "STRENGTHS": (1e-3, 1e-1, 10.0), "SAMPLES": ((0, 0), (1, 2)), "SAME_ANSWERS": 0.05}.items():  # fmt: skip
        monkeypatch.setattr(probe, name, value)


def test_rows(small):
    rows = list(probe.measure(CPU))
    assert [(row.goal, row.unit) for row in rows] == [(20, "models"), (None, "images")]
    assert len({row.what for row in rows}) == len(rows)
    for row in rows:
        assert row.part == "probe"
        assert all(math.isfinite(value) and value > 0 for value in (row.per_s, row.against_per_s, row.ratio))
    assert "2 of the 9 models, with strengths 0.001, 10" in rows[0].note


def test_samples_are_of_the_grid():
    assert len(probe.STRENGTHS) == 12
    assert all(fold < probe.FOLDS and number < len(probe.STRENGTHS) for fold, number in probe.SAMPLES)


def test_an_optimum_that_was_not_reached_is_found(small, monkeypatch):
    solve = probe.solve_logistic
    monkeypatch.setattr(probe, "solve_logistic", lambda *a, **options: solve(*a, **options, max_iter=3))
    with pytest.raises(AssertionError, match="objectives differ by"):
        next(iter(probe.measure(CPU)))


def test_features_have_a_spectrum_that_falls(small):
    feature_ND, label_N = probe.draw_features()
    assert feature_ND.min() >= 0
    assert torch.bincount(label_N).tolist() == [50, 50, 50]
    standard_ND = (feature_ND - feature_ND.mean(dim=0)) / feature_ND.std(dim=0)
    spectrum = torch.linalg.svdvals(standard_ND) ** 2
    assert spectrum[0] > 50 * spectrum.median()
