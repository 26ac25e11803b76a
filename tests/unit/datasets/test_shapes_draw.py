"""Scenes: contrast of either sign, nothing but the outline tells the class, edges without stairs."""

import numpy as np
import pytest

from pretext.datasets import shapes_draw
from pretext.datasets.shapes_draw import LUMA, NUM_UNIFORMS, TEXTURES, draw_scenes
from pretext.datasets.shapes_geometry import SHAPES


@pytest.fixture(scope="module")
def scenes():
    """(label, luma, cover) of 600 scenes at 32 pixels; cover is 1 inside the shape."""
    label_B = np.arange(600) % 10
    uniform_BU = np.random.default_rng(0).random((600, NUM_UNIFORMS))
    covers = []
    plain = shapes_draw._shape_cover
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes_draw, "_shape_cover", lambda *given: covers.append(plain(*given)) or covers[-1])
        image_BHWC = draw_scenes(label_B, uniform_BU, image_size=32)
    return label_B, image_BHWC / 255 @ LUMA, covers[0]


def means(luma_BHW, cover_BHW):
    inside = np.array([luma[cover == 1].mean() for luma, cover in zip(luma_BHW, cover_BHW, strict=True)])
    outside = np.array([luma[cover == 0].mean() for luma, cover in zip(luma_BHW, cover_BHW, strict=True)])
    return inside, outside


def test_shape_and_ground_differ_clearly_either_way(scenes):
    _, luma_BHW, cover_BHW = scenes
    inside, outside = means(luma_BHW, cover_BHW)
    assert np.abs(inside - outside).min() > 0.2
    assert 0.4 < (inside > outside).mean() < 0.6


def test_the_ground_has_clutter_that_is_weaker_than_the_shape(scenes):
    _, luma_BHW, cover_BHW = scenes
    spread = np.array([luma[cover == 0].std() for luma, cover in zip(luma_BHW, cover_BHW, strict=True)])
    assert np.median(spread) > 0.03
    assert spread.max() < 0.2


def test_neither_brightness_nor_place_tells_the_class(scenes):
    label_B, luma_BHW, cover_BHW = scenes
    inside, outside = means(luma_BHW, cover_BHW)
    grid = (np.arange(32) + 0.5) / 32 - 0.5
    mass = cover_BHW.sum(axis=(1, 2))
    centre_x = (cover_BHW * grid).sum(axis=(1, 2)) / mass
    for fact in (inside, outside, centre_x):
        by_class = np.array([fact[label_B == label].mean() for label in range(10)])
        assert by_class.std() < 0.4 * fact.std()  # chance alone gives 0.13
    assert np.abs(centre_x).max() < 0.16


def test_every_shape_covers_a_fair_part(scenes):
    label_B, _, cover_BHW = scenes
    share = cover_BHW.mean(axis=(1, 2))
    assert share.min() > 0.05
    assert share.max() < 0.55
    assert {int(label) for label in label_B} == set(range(len(SHAPES)))


def test_edges_are_soft(scenes):
    _, _, cover_BHW = scenes
    partial = ((cover_BHW > 0) & (cover_BHW < 1)).sum(axis=(1, 2))
    assert partial.min() > 10


def test_a_scene_at_another_size_is_the_same_scene():
    label_B = np.arange(10)
    uniform_BU = np.random.default_rng(1).random((10, NUM_UNIFORMS))
    small = draw_scenes(label_B, uniform_BU, image_size=32).astype(float)
    large = draw_scenes(label_B, uniform_BU, image_size=128).astype(float)
    shrunk = large.reshape(10, 32, 4, 32, 4, 3).mean(axis=(2, 4))
    assert np.abs(small - shrunk).mean() < 2
    assert np.quantile(np.abs(small - shrunk), 0.99) < 16


def test_each_number_is_used_once_and_all_matter(monkeypatch):
    draws = []
    plain = shapes_draw._Draws.__init__
    monkeypatch.setattr(shapes_draw._Draws, "__init__", lambda self, given: draws.append(self) or plain(self, given))
    draw_scenes(np.array([0]), np.full((1, NUM_UNIFORMS), 0.5), image_size=4)
    assert [draw._next for draw in draws] == [NUM_UNIFORMS]


@pytest.mark.parametrize("value", [0.0, 1 - 2**-53])
def test_the_ends_of_the_range_are_fine(value):
    image_BHWC = draw_scenes(np.arange(10), np.full((10, NUM_UNIFORMS), value), image_size=16)
    assert image_BHWC.std() > 0


def test_textures_differ():
    assert TEXTURES == ("plain", "gradient", "stripes", "dots", "cloud")
    grid = ((np.arange(64) + 0.5) / 64 - 0.5).astype(np.float32)
    x_BHW, y_BHW = np.broadcast_to(grid, (5, 64, 64)), np.broadcast_to(grid[:, None], (5, 64, 64))
    uniform_BU = np.tile(np.random.default_rng(0).random(100), (5, 1))
    uniform_BU[:, 0] = (np.arange(5) + 0.5) / 5
    relief_BHW = shapes_draw._texture(shapes_draw._Draws(uniform_BU), x_BHW, y_BHW)
    assert np.abs(relief_BHW[0]).max() == 0
    assert (np.abs(relief_BHW[1:]) <= 1).all()
    for first in range(1, 5):
        assert relief_BHW[first].std() > 0.2
        for second in range(first):
            assert np.abs(relief_BHW[first] - relief_BHW[second]).mean() > 0.2
