"""Outlines: known points and areas, symmetry, and distances that are true near the outline."""

import math

import numpy as np
import pytest

from pretext.datasets.shapes_geometry import SHAPES

GRID = (np.arange(400, dtype=np.float32) + 0.5) / 400 * 3 - 1.5
X, Y = np.meshgrid(GRID, GRID)
CELL = (3 / 400) ** 2


def area(name):
    return float((SHAPES[name](X[None], Y[None]) < 0).sum()) * CELL


def polygon_area(points):
    following = points[1:] + points[:1]
    return abs(sum(x * v - u * y for (x, y), (u, v) in zip(points, following, strict=True))) / 2


STAR = [
    (radius * math.cos(math.radians(36 * corner - 90)), radius * math.sin(math.radians(36 * corner - 90)))
    for corner, radius in enumerate([1.05, 0.44] * 5)
]
AREAS = {
    "disc": math.pi * 0.88**2,
    "ring": math.pi * (0.93**2 - 0.53**2),
    "triangle": 3 * math.sqrt(3) / 4,
    "square": 1.46**2,
    "cross": 4 * 0.27 * 0.97 * 2 - 0.54**2,
    "star": polygon_area(STAR),
    "heart": 1.12**2 + math.pi * 0.56**2,
    "hourglass": 2 * (0.06 * 2 * 0.84 + 0.85 * 0.84**2),
}


@pytest.mark.parametrize("name", AREAS)
def test_areas(name):
    assert area(name) == pytest.approx(AREAS[name], rel=0.01)


def test_there_are_ten_shapes_of_like_reach():
    assert len(SHAPES) == 10
    for name, distance in SHAPES.items():
        inside = distance(X[None], Y[None])[0] < 0
        reach = np.sqrt(X**2 + Y**2)[inside].max()
        assert 0.85 < reach < 1.25, name
        assert 0.7 < area(name) < 2.6, name


def test_the_star_is_the_polygon():
    """Signed distance below zero exactly inside, by counting crossings of a ray."""
    inside = np.zeros(X.shape, dtype=bool)
    for (x, y), (u, v) in zip(STAR, STAR[1:] + STAR[:1], strict=True):
        crosses = (y > Y) != (v > Y)
        inside ^= crosses & ((u - x) * (Y - y) / (v - y + 1e-30) + x > X)
    drawn = SHAPES["star"](X[None], Y[None])[0]
    assert (inside != (drawn < 0))[np.abs(drawn) > 1e-3].sum() == 0


@pytest.mark.parametrize("name", SHAPES)
def test_distances_grow_by_one_per_unit_at_the_outline(name):
    """A ramp over this distance is one pixel wide only if its slope is 1; corners are few."""
    distance = SHAPES[name](X[None], Y[None])[0]
    slope_y, slope_x = np.gradient(distance, 3 / 400)
    near = np.abs(distance) < 0.05
    slope = np.sqrt(slope_x**2 + slope_y**2)[near]
    assert (np.abs(slope - 1) < 0.05).mean() > 0.85
    assert np.median(slope) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", ["disc", "ring", "triangle", "square", "cross", "star", "heart", "arrow", "hourglass"])
def test_shapes_are_mirror_images_of_themselves(name):
    distance = SHAPES[name](X[None], Y[None])
    np.testing.assert_allclose(distance, distance[:, :, ::-1], atol=2e-6)


def test_an_arrow_points_up_and_a_crescent_opens_to_the_right():
    arrow = SHAPES["arrow"](X[None], Y[None])[0] < 0
    widths = arrow.sum(axis=1)
    assert widths[GRID < 0].max() > 2 * widths[GRID > 0.5].max() > 0
    point = np.array([[[0.66]]], dtype=np.float32)
    assert SHAPES["crescent"](point, point * 0) > 0
    assert SHAPES["crescent"](-point, point * 0) < 0
