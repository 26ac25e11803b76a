"""The slides' and the README's numbers, as they stand there."""

from __future__ import annotations

import pytest

from pretext.published.golmakani import FIGURES

BY_KEY = {figure.key: figure for figure in FIGURES}


def test_every_cell_is_there():
    assert len(BY_KEY) == len(FIGURES) == 7 * 2 * 4 + 4


@pytest.mark.parametrize(("key", "value", "sd"), [
    ("slides/fine-tune/cnn-mse/ensemble_top1", 0.4896, None),
    ("slides/fine-tune/cnn-pse-4/ensemble_top2", 0.7088, None),
    ("slides/fine-tune/cnn-pse-5/ensemble_top4", 0.8913, None),
    ("slides/fine-tune/cnn-pse-6/fold_mean_top1", 0.4847, 0.0040),
    ("slides/fine-tune/resnet-pse-3/ensemble_top1", 0.5645, None),
    ("slides/freeze/cnn-mse/ensemble_top1", 0.2815, None),
    ("slides/freeze/cnn-pse-3/ensemble_top4", 0.7667, None),
    ("slides/freeze/resnet-pse-3/fold_mean_top1", 0.3714, 0.0136),
    ("readme/resnet-pse/ensemble_top1", 0.5325, None),
])  # fmt: skip
def test_values_are_those_of_the_sources(key, value, sd):
    assert BY_KEY[key].value == pytest.approx(value, abs=1e-12)
    assert BY_KEY[key].sd == (pytest.approx(sd) if sd else None)
