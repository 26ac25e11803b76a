"""What becomes of a layer's map before a classifier sees it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.transform import resize

from pretext.tasks.pooling import pool_map


def a_map(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_flatten_keeps_every_number_in_order():
    map_BCHW = a_map(2, 3, 4, 5)
    assert torch.equal(pool_map(map_BCHW, "flatten"), map_BCHW.reshape(2, 60))


def test_avg_is_the_mean_over_places():
    map_BCHW = a_map(2, 3, 4, 5)
    np.testing.assert_allclose(pool_map(map_BCHW, "avg"), map_BCHW.numpy().mean((2, 3)), rtol=1e-6)


@pytest.mark.parametrize(("channels", "side", "resized"), [
    (96, 55, 10), (256, 27, 6), (384, 13, 5),  # AlexNet's, as the paper has them
    (96, 8, 8),  # never larger than it is
    (9600, 3, 1), (20_000, 3, 1),
    (2400, 6, 2), (2401, 6, 1),
])  # fmt: skip
def test_resize_leaves_the_papers_numbers(channels, side, resized):
    feature_BD = pool_map(torch.zeros(1, channels, side, side), "resize")
    assert feature_BD.shape == (1, channels * resized**2)


@pytest.mark.parametrize("most", [1, 7, 12, 48, 107, 108, 1000])
def test_no_more_than_asked_and_no_fewer_than_could_be(most):
    channels, side = 3, 6
    found = pool_map(torch.zeros(1, channels, side, side), "resize", max_features=most).shape[1]
    possible = [channels * g * g for g in range(1, side + 1)]
    assert found == max([count for count in possible if count <= most] or possible[:1])


def test_a_map_that_fits_comes_back_as_it_is():
    map_BCHW = a_map(2, 3, 6, 6)
    torch.testing.assert_close(pool_map(map_BCHW, "resize", max_features=108), map_BCHW.flatten(1), rtol=0, atol=1e-6)


def test_one_place_is_a_weighted_mean_and_a_constant_stays():
    constant_BCHW = torch.full((1, 2, 9, 9), 0.7)
    torch.testing.assert_close(pool_map(constant_BCHW, "resize", max_features=32), torch.full((1, 32), 0.7))
    one_BD = pool_map(a_map(1, 1, 9, 9), "resize", max_features=1)
    assert one_BD.shape == (1, 1)


def by_hand(row_W, size):
    """Triangles as wide as the step between two new places, over the old places, each normalised to 1."""
    step = len(row_W) / size
    new = []
    for place in range(size):
        centre = (place + 0.5) * step
        weight_W = np.array([max(0.0, 1 - abs(old + 0.5 - centre) / step) for old in range(len(row_W))])
        new.append((weight_W * row_W).sum() / weight_W.sum())
    return np.array(new)


def test_resize_is_the_triangle_filter():
    map_HW = a_map(9, 9).numpy()
    rows = np.stack([by_hand(row, 4) for row in map_HW])
    expected = np.stack([by_hand(column, 4) for column in rows.T]).T
    found = pool_map(torch.from_numpy(map_HW)[None, None], "resize", max_features=16)
    np.testing.assert_allclose(found.reshape(4, 4), expected, rtol=1e-5, atol=1e-6)


def test_resize_does_not_alias():
    """A checkerboard has no say at a third of its resolution; without a filter it would be all of what is seen."""
    board_HW = np.indices((30, 30)).sum(0) % 2
    found = pool_map(torch.from_numpy(board_HW).float()[None, None], "resize", max_features=100).numpy()
    np.testing.assert_allclose(found, 0.5, atol=0.08)
    aliased = resize(board_HW.astype(float), (10, 10), order=1, anti_aliasing=False)
    assert aliased.std() > 0.4


@pytest.mark.parametrize("how", ["flatten", "avg", "resize"])
def test_a_vector_is_taken_as_it_is(how):
    feature_BD = a_map(3, 7)
    assert torch.equal(pool_map(feature_BD, how, max_features=2), feature_BD)


@pytest.mark.parametrize("how", ["flatten", "avg", "resize"])
def test_half_precision_comes_out_as_float32(how):
    map_BCHW = a_map(2, 3, 6, 6)
    half = pool_map(map_BCHW.bfloat16(), how, max_features=27)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, pool_map(map_BCHW, how, max_features=27), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("options", "message"), [
    ({"how": "max"}, "how must be flatten, avg or resize, got 'max'"),
    ({"how": "resize", "max_features": 0}, "max_features must be at least 1, got 0"),
])  # fmt: skip
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        pool_map(torch.zeros(1, 1, 2, 2), **options)
