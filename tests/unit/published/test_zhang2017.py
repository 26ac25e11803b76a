"""The paper's tables: every cell, and the orderings that its text draws from them."""

from __future__ import annotations

import pytest

from pretext.published.zhang2017 import FIGURES, LAYERS

CELLS = {tuple(figure.key.split("/")[1:]): figure for figure in FIGURES}


def _score(name, layer, data="imagenet"):
    return CELLS[data, name, layer].value


def test_every_cell_is_there():
    assert len(CELLS) == len(FIGURES) == (17 + 3) * 5
    assert {layer for *_, layer in CELLS} == set(LAYERS)
    assert all(figure.layer == layer for (*_, layer), figure in CELLS.items())


@pytest.mark.parametrize(("data", "name", "layer", "value"), [
    ("imagenet", "split-brain-cl", "conv3", 0.354), ("imagenet", "labels", "conv5", 0.505),
    ("imagenet", "gaussian", "conv2", 0.171), ("imagenet", "puzzles", "conv3", 0.347),
    ("imagenet", "inpainting", "conv1", 0.141), ("imagenet", "one-network-autoencoder", "conv1", 0.154),
    ("places205", "split-brain-cl", "conv4", 0.341), ("places205", "labels", "conv1", 0.221),
    ("places205", "l-to-ab-cl", "conv5", 0.302),
])  # fmt: skip
def test_values_are_those_of_the_paper(data, name, layer, value):
    assert _score(name, layer, data) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
def test_orderings_that_the_paper_draws(layer):
    assert _score("split-brain-cl", layer) > _score("l-to-ab-cl", layer) > _score("ab-to-l-cl", layer)
    assert _score("split-brain-cl", layer) > _score("one-network", layer)
    assert _score("split-brain-cl", layer) > _score("split-brain-reg", layer)
    assert _score("l-to-ab-cl", layer) > _score("two-colorizers", layer)


def test_autoencoders_end_below_random_weights():
    assert max(_score("autoencoder", "conv5"), _score("denoising", "conv5")) < _score("gaussian", "conv5")


def test_the_two_halves_have_half_the_width():
    assert CELLS["imagenet", "split-brain-cl", "conv1"].requires["width"] == 0.5
    assert CELLS["imagenet", "l-to-ab-cl", "conv1"].requires["width"] == 1.0
