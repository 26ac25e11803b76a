"""Folds and draws: agreement with scikit-learn, disjointness, stratification, nesting, and every refusal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from pretext.tasks.folds import (
    check_train_sets,
    few_label_draw,
    inner_train_sets,
    kfold_train_sets,
    official_train_sets,
)


@pytest.mark.parametrize(("num_images", "k"), [(5000, 5), (103, 10), (4, 2)])
def test_kfold_is_scikit_learns(num_images: int, k: int) -> None:
    ours = kfold_train_sets(num_images, k=k)
    theirs = KFold(k, shuffle=True, random_state=12345).split(np.zeros(num_images))
    for (train, heldout), (train_ref, heldout_ref) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(train, train_ref)
        np.testing.assert_array_equal(heldout, heldout_ref)
    assert len(ours) == k


def test_kfold_parts_cover_every_image_once() -> None:
    sets = kfold_train_sets(103, k=5, seed=1)
    check_train_sets(sets, num_images=103)
    assert sorted(np.concatenate([heldout for _, heldout in sets])) == list(range(103))
    assert all(len(train) + len(heldout) == 103 for train, heldout in sets)
    other = kfold_train_sets(103, k=5, seed=2)
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(sets, other, strict=True))


def test_official_folds_come_from_the_images_lists() -> None:
    sets = official_train_sets([[0], [1, 2], [], [2, 0], [1]])
    assert [train.tolist() for train, _ in sets] == [[0, 3], [1, 4], [1, 3]]
    assert all(len(heldout) == 0 for _, heldout in sets)


def test_stratified_draw_has_the_same_number_of_each_class() -> None:
    label_N = np.random.default_rng(0).integers(0, 7, 500)
    drawn = few_label_draw(label_N, 8, draw=0, seed=0)
    assert np.bincount(label_N[drawn]).tolist() == [8] * 7
    assert drawn.tolist() == sorted(set(drawn.tolist()))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 50), st.integers(0, 5), st.integers(1, 6), st.booleans())
def test_draws_are_nested(seed: int, draw: int, k: int, stratified: bool) -> None:
    label_N = np.arange(120) % 10
    small = few_label_draw(label_N, k, draw=draw, seed=seed, stratified=stratified)
    large = few_label_draw(label_N, 2 * k, draw=draw, seed=seed, stratified=stratified)
    assert set(small) < set(large)
    assert (len(small), len(large)) == (10 * k, 20 * k)


def test_draws_of_another_number_or_seed_differ() -> None:
    label_N = np.arange(1000) % 10
    first = few_label_draw(label_N, 4, draw=0, seed=0)
    np.testing.assert_array_equal(first, few_label_draw(label_N, 4, draw=0, seed=0))
    assert not np.array_equal(first, few_label_draw(label_N, 4, draw=1, seed=0))
    assert not np.array_equal(first, few_label_draw(label_N, 4, draw=0, seed=1))


def test_unstratified_draw_misses_classes_as_often_as_expected() -> None:
    # one label per class at random from many: a class is present with probability 1 - 1/e in the limit
    label_N = np.arange(50_000) % 1000
    present = len(set(label_N[few_label_draw(label_N, 1, draw=0, seed=0, stratified=False)]))
    assert present / 1000 == pytest.approx(1 - np.exp(-1), abs=0.03)


def test_stratified_draw_is_uniform_over_a_class() -> None:
    label_N = np.repeat([0, 1], 5)
    counts = np.zeros(10)
    for draw in range(600):
        counts[few_label_draw(label_N, 1, draw=draw, seed=0)] += 1
    assert counts.min() > 80
    assert counts.max() < 165


def test_inner_parts_are_stratified_and_stay_inside_the_training_set() -> None:
    label_N = np.arange(200) % 4
    train = np.arange(0, 200, 3)
    inner = inner_train_sets(label_N, train, k=5)
    assert len(inner) == 5
    for fit, heldout in inner:
        assert sorted([*fit, *heldout]) == train.tolist()
        assert np.ptp(np.bincount(label_N[heldout], minlength=4)) <= 1
    assert sorted(np.concatenate([heldout for _, heldout in inner])) == train.tolist()


def test_inner_parts_shrink_with_the_poorest_class() -> None:
    label_N = np.repeat([0, 1, 2], [3, 10, 10])
    inner = inner_train_sets(label_N, np.arange(23), k=5)
    assert len(inner) == 3
    assert all((np.bincount(label_N[fit], minlength=3) > 0).all() for fit, _ in inner)


def test_a_class_with_a_single_label_is_never_held_out() -> None:
    label_N = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    inner = inner_train_sets(label_N, np.arange(8), k=5)
    assert len(inner) == 3
    assert all(7 in fit and 7 not in heldout for fit, heldout in inner)


def test_one_label_per_class_can_not_be_split() -> None:
    assert inner_train_sets(np.arange(10), np.arange(10)) == []


def test_too_few_images_names_the_class_and_the_counts() -> None:
    with pytest.raises(ValueError, match="class 2 has 3 images, 4 per class"):
        few_label_draw(np.repeat([0, 1, 2], [10, 10, 3]), 4, draw=0, seed=0)
    with pytest.raises(ValueError, match="3 classes x 8 labels need 24 images, got 23"):
        few_label_draw(np.repeat([0, 1, 2], [10, 10, 3]), 8, draw=0, seed=0, stratified=False)


def test_refusals_of_draws_and_folds() -> None:
    label_N = np.arange(10) % 2
    with pytest.raises(ValueError, match=r"k must be in 2..10 \(the labelled images\), got 11"):
        kfold_train_sets(10, k=11)
    with pytest.raises(ValueError, match="labels_per_class must be at least 1, got 0"):
        few_label_draw(label_N, 0, draw=0, seed=0)
    with pytest.raises(ValueError, match="draw and seed must be 0 or more, got -1 and 0"):
        few_label_draw(label_N, 1, draw=-1, seed=0)
    with pytest.raises(ValueError, match="classes 0 and up, got float64"):
        few_label_draw(label_N / 1.0, 1, draw=0, seed=0)
    with pytest.raises(ValueError, match="got none for 2 images"):
        official_train_sets([[], []])
    with pytest.raises(ValueError, match=r"numbered 0..1 without a gap, got \[0, 2\]"):
        official_train_sets([[0], [2]])
    with pytest.raises(ValueError, match="k must be at least 2, got 1"):
        inner_train_sets(label_N, np.arange(10), k=1)
    with pytest.raises(ValueError, match="at least 1 image, got 0"):
        inner_train_sets(label_N, np.arange(0))


def test_check_names_the_fold_and_the_image() -> None:
    good = (np.array([0, 1]), np.array([2]))
    check_train_sets([good], num_images=3)
    with pytest.raises(ValueError, match="at least 1 fold, got 0"):
        check_train_sets([], num_images=3)
    with pytest.raises(ValueError, match="fold 1 must train on at least 1 image, got 0"):
        check_train_sets([good, (np.array([], dtype=int), np.array([2]))], num_images=3)
    with pytest.raises(ValueError, match=r"fold 0 must index images 0..1, got 2"):
        check_train_sets([good], num_images=2)
    with pytest.raises(ValueError, match="fold 0 must hold every image once, got 1 twice"):
        check_train_sets([(np.array([0, 0]), np.array([1]))], num_images=3)
    with pytest.raises(ValueError, match="fold 1 must not train on what it holds out, got image 1 in both"):
        check_train_sets([good, (np.array([0, 1]), np.array([1]))], num_images=3)
