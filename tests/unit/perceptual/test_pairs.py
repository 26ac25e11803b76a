"""Pairs of images are found, embedded as seldom as the memory allows, and compared in their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pretext.datasets.judgments import Pairs, Ratings, Triplets
from pretext.errors import DataError
from pretext.perceptual.pairs import compare_pairs, index_pairs
from pretext.progress import Silent


def index(*values):
    return np.array(values, np.int64)


def test_every_pair_stands_once_whatever_the_order_of_its_images():
    paths = [Path(str(n)) for n in range(4)]
    triplets = Triplets(image_paths=paths, reference_N=index(2, 0), a_N=index(0, 2), b_N=index(3, 2),
                        votes_a_N=np.ones(2), votes_b_N=np.ones(2), group_N=index(2, 0))  # fmt: skip
    pair_P2, (row_a_N, row_b_N) = index_pairs(triplets)
    assert pair_P2.tolist() == [[0, 2], [2, 3]]
    assert (row_a_N.tolist(), row_b_N.tolist()) == ([0, 0], [1, 0])
    ratings = Ratings(image_paths=paths, reference_N=index(3, 0), distorted_N=index(1, 1), score_N=np.ones(2), group_N=index(3, 0))  # fmt: skip
    pair_P2, (row_N,) = index_pairs(ratings)
    assert pair_P2[row_N].tolist() == [[1, 3], [0, 1]]
    pairs = Pairs(image_paths=paths, first_N=index(1), second_N=index(1), same_share_N=np.ones(1), group_N=index(1))
    assert index_pairs(pairs)[0].tolist() == [[1, 1]]


@pytest.fixture
def images(tmp_path):
    """Nine flat images of grey 0, 25, 50, ..."""
    paths = [tmp_path / f"{number}.png" for number in range(9)]
    for number, path in enumerate(paths):
        Image.new("RGB", (8, 6), (25 * number,) * 3).save(path)
    return paths


class Counting:
    """An embedding (its mean grey, 256 times) that counts the images it was given."""

    def __init__(self):
        self.seen = 0

    def __call__(self, image01_BCHW):
        self.seen += len(image01_BCHW)
        return [image01_BCHW.mean((1, 2, 3))[:, None].expand(-1, 256)]


def compared(paths, pair_P2, embed, **changes):
    options = {"image_size": None, "batch_size": 4, "device": torch.device("cpu"), "task": Silent(), **changes}
    return compare_pairs(paths, pair_P2, embed=embed, compare=lambda x, y: (x[0] - y[0]).abs().mean(1), **options)


ALL_PAIRS = np.array([(i, j) for i in range(9) for j in range(i, 9)])


@pytest.mark.parametrize("memory", [2**30, 1, 4 * 1024, 6 * 1024])
def test_pairs_keep_their_order_and_the_memory_changes_no_distance(images, memory):
    pair_P2 = np.random.default_rng(0).permutation(ALL_PAIRS)
    distance_P = compared(images, pair_P2, Counting(), memory=memory)
    assert distance_P == pytest.approx(25 / 255 * (pair_P2[:, 1] - pair_P2[:, 0]), abs=1e-6)


def test_with_memory_for_all_each_image_is_embedded_once():
    # judgments about images of their own, as in BAPPS, need little memory for that
    embed = Counting()
    triples = np.array([(3 * n, 3 * n + m) for n in range(3) for m in (1, 2)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "pretext.perceptual.pairs.load_images", lambda paths, **_: np.zeros((len(paths), 4, 4, 3), np.uint8)
        )
        compared([Path()] * 9, triples, embed, memory=6 * 1024, image_size=4)
        assert embed.seen == 9
        compared([Path()] * 9, ALL_PAIRS, embed)
    assert embed.seen == 18


def test_an_image_of_another_size_is_refused_in_whichever_batch_it_is(images):
    Image.new("RGB", (8, 8)).save(images[7])
    with pytest.raises(DataError, match=r"7\.png has 8 x 8 pixels.*0\.png 8 x 6") as caught:
        compared(images, ALL_PAIRS, Counting(), batch_size=1)
    assert "--image-size" in caught.value.hint
    assert len(compared(images, ALL_PAIRS, Counting(), batch_size=1, image_size=4)) == len(ALL_PAIRS)
