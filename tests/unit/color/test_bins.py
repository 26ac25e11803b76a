"""Equal bins and nearest points against slow references. Run alone: pytest tests/unit/color/test_bins.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from pretext.color.bins import Bins, Points
from pretext.color.spaces import GAMUT_POINTS, PUBLISHED_POINTS

HOLES = Points(((-10, 0, 10), (10, -20, -20), (20, 30, 50)))
LISTS = {"published": PUBLISHED_POINTS, "gamut": GAMUT_POINTS, "holes": HOLES}


def as_map(value_Nc):
    return torch.as_tensor(value_Nc).T[None, :, None]


def encoded(code, value_Nc):
    return code.encode(as_map(value_Nc), code.spans)[0, 0].tolist()


def brute_force(points, value_N2):
    """The first of the nearest points, by all distances."""
    far_NK = ((value_N2[:, None] - points.centres) ** 2).sum(2)
    return far_NK.argmin(1).tolist()


def random_colours(count, reach, seed=0):
    return np.random.default_rng(seed).uniform(-reach, reach, (count, 2))


def test_one_channel_by_its_edges():
    code = Bins((100,), ((0, 101),))
    value = np.random.default_rng(0).uniform(0, 101, (5000, 1))
    expected = np.digitize(value[:, 0], np.linspace(0, 101, 101)) - 1
    assert encoded(code, value) == expected.tolist()


def test_two_channels_share_one_index_the_first_the_coarser():
    code = Bins((10, 10), ((-87, 99), (-108, 95)))
    value = np.random.default_rng(0).uniform((-87, -108), (99, 95), (5000, 2))
    a = np.digitize(value[:, 0], np.linspace(-87, 99, 11)) - 1
    b = np.digitize(value[:, 1], np.linspace(-108, 95, 11)) - 1
    assert encoded(code, value) == (10 * a + b).tolist()
    assert code.num_bins == len(code.centres) == 100
    np.testing.assert_allclose(code.centres[37], (-87 + 3.5 * 18.6, -108 + 7.5 * 20.3))


def test_unequal_counts():
    code = Bins((2, 3), ((0, 1), (0, 1)))
    value = np.array([(x, y) for x in (0.2, 0.7) for y in (0.1, 0.5, 0.9)])
    assert encoded(code, value) == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(code.centres[4], (0.75, 0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_lies_outside_belongs_to_the_nearest_bin(dtype):
    code = Bins((10, 10), ((-87, 99), (-108, 95)))
    low, high = torch.tensor([[-87.0, -108.0]], dtype=dtype), torch.tensor([[99.0, 95.0]], dtype=dtype)
    for value, expected in ((low, 0), (low - 1e-5, 0), (low - 1e6, 0), (high, 99), (high + 1e-5, 99), (high + 1e6, 99)):
        assert encoded(code, value) == [expected]


@pytest.mark.parametrize("code", [Bins((100,), ((0, 101),)), Bins((10, 10), ((-87, 99), (-108, 95))), *LISTS.values()])
def test_a_centre_is_in_its_own_bin(code):
    assert encoded(code, code.centres) == list(range(code.num_bins))
    assert encoded(code, code.centres.astype(np.float32)) == list(range(code.num_bins))


@pytest.mark.parametrize("points", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reach", [60, 130, 1000])
def test_nearest_point_is_the_tree_s(points, dtype, reach):
    value = random_colours(4000, reach).astype(dtype)
    found = encoded(points, value)
    exact = value.astype(np.float64)
    distance, index = cKDTree(points.centres).query(exact)
    own = np.linalg.norm(exact - points.centres[found], axis=1)
    np.testing.assert_allclose(own, distance, rtol=1e-6, atol=1e-4)
    second = cKDTree(points.centres).query(exact, k=2)[0][:, 1]
    clear = second - distance > 1e-3
    assert clear.mean() > 0.98
    assert (np.array(found) == index)[clear].all()


@pytest.mark.parametrize("points", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_of_equally_near_points_the_first(points, dtype):
    """Every fifth coordinate: corners and sides of all cells, where two to four points are as near, exactly."""
    side = np.arange(-130, 131, 5)
    value = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2).astype(dtype)
    assert encoded(points, value) == brute_force(points, value)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_rows(data):
    row = st.tuples(st.integers(-12, 12), st.integers(0, 6)).map(lambda row: (10 * row[0], 10 * sum(row)))
    chosen = sorted(data.draw(st.sets(st.integers(-12, 12), min_size=2, max_size=6)))
    points = Points(tuple((10 * a, *data.draw(row)) for a in chosen))
    value = random_colours(200, 150, seed=data.draw(st.integers(0, 9)))
    assert encoded(points, value) == brute_force(points, value)


def test_points_are_in_order_of_a_then_b():
    for points in LISTS.values():
        assert points.centres.tolist() == sorted(points.centres.tolist())


def test_spans_of_points():
    assert PUBLISHED_POINTS.spans == ((-90, 100), (-110, 100))
    assert HOLES.spans == ((-10, 20), (-20, 50))


def test_facts():
    assert Bins((2,), ((0, 101),)).facts("L") == {"edges": {"L": [0, 50.5, 101]}}
    assert Bins((2, 4)).facts("ab") == {
        "span": "each image's smallest value to its largest + 1",
        "edges_of_span": {"a": [0, 0.5, 1], "b": [0, 0.25, 0.5, 0.75, 1]},
    }
    assert HOLES.facts("ab") == {"points": [[-10, 0], [-10, 10], [10, -20], [20, 30], [20, 40], [20, 50]]}
