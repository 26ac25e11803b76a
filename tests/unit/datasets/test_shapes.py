"""The drawn source: same seed same bits however it is read, balanced labels, splits of their own."""

import hashlib

import numpy as np
import pytest

from pretext.datasets.base import SplitInfo
from pretext.datasets.shapes import build_shapes


def build(**changes):
    return build_shapes(**{"num_unlabeled": 70, "num_train": 95, "num_test": 23, **changes})


def images(source, split, indices):
    return np.stack([sample.image_HWC for sample in source.read(split, np.asarray(indices))])


def test_facts():
    source = build()
    assert source.splits == (
        SplitInfo("unlabeled", 70, False), SplitInfo("train", 95, True), SplitInfo("test", 23, True)
    )  # fmt: skip
    assert (source.name, source.image_size, source.missing) == ("shapes", 32, ())
    assert source.class_names == (
        "disc", "ring", "triangle", "square", "cross", "star", "crescent", "heart", "arrow", "hourglass"
    )  # fmt: skip
    assert [info.name for info in build(num_unlabeled=0, num_test=0).splits] == ["train"]
    samples = list(source.read("train", np.array([94, 0])))
    assert [sample.id for sample in samples] == ["train/000094", "train/000000"]
    assert samples[0].image_HWC.shape == (32, 32, 3)
    assert samples[0].image_HWC.dtype == np.uint8
    assert samples[0].image_HWC.flags.c_contiguous
    assert samples[0].image_HWC.base is None  # a view would keep its whole chunk in memory


@pytest.mark.parametrize("image_size", [32, 33, 96])
def test_the_cut_into_calls_changes_no_bit(image_size):
    source = build(image_size=image_size)
    together = images(source, "train", range(95))
    for indices in ([3], [94], [10, 3, 3, 60], range(40, 80)):
        np.testing.assert_array_equal(images(source, "train", indices), together[list(indices)])


def test_same_seed_same_bits_other_seed_others():
    np.testing.assert_array_equal(images(build(seed=5), "test", range(5)), images(build(seed=5), "test", range(5)))
    assert (images(build(seed=5), "test", range(5)) != images(build(seed=6), "test", range(5))).mean() > 0.5
    assert (images(build(), "train", range(5)) != images(build(), "test", range(5))).mean() > 0.5


def test_a_longer_split_begins_with_the_shorter_one():
    longer = build(num_train=1000)
    np.testing.assert_array_equal(images(longer, "train", range(10)), images(build(), "train", range(10)))
    short_labels = [sample.label for sample in build().read("train", np.arange(95))]
    assert [sample.label for sample in longer.read("train", np.arange(95))] == short_labels


def test_bits_are_those_of_this_drawing_version():
    content = images(build(seed=1), "unlabeled", range(40)).tobytes()
    assert hashlib.sha256(content).hexdigest() == "ff8d0990e5999ab3e4bfd2834c5f96f0aa1a728655361fc1ded01b4d3cb22ff5"


@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_are_balanced_and_shuffled(split):
    labels = [sample.label for sample in build().read(split, np.arange(23))]
    counts = np.bincount(labels, minlength=10)
    assert counts.max() - counts.min() <= 1
    assert labels[:10] != labels[10:20]
    assert labels[:10] != sorted(labels[:10])


def test_unlabelled_images_show_the_same_ten():
    source = build()
    assert {sample.label for sample in source.read("unlabeled", np.arange(70))} == {None}
    assert sorted(source._label("unlabeled", index) for index in range(10)) == list(range(10))


def test_fingerprint_follows_parameters():
    fingerprints = {
        build(**changes).fingerprint()
        for changes in ({}, {"seed": 1}, {"num_train": 96}, {"num_unlabeled": 0}, {"image_size": 33})
    }
    assert len(fingerprints) == 5
    assert build().fingerprint() == build().fingerprint()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train": -1}, "num_train must not be negative, got -1"),
        ({"num_unlabeled": 0, "num_train": 0, "num_test": 0}, "at least one split"),
        ({"seed": -1}, r"seed must be in 0\.\.2\*\*64 - 1, got -1"),
        ({"seed": 2**64}, "got 18446744073709551616"),
        ({"image_size": 0}, "at least 1, got 0"),
    ],
)
def test_parameters_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_the_largest_seed_and_smallest_image_work():
    assert images(build(seed=2**64 - 1, image_size=1), "train", [0]).shape == (1, 1, 1, 3)
