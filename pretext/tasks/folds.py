"""Which labelled images a classifier trains on and which it is judged on while training: index arrays, seeded.

Letters beside the package's alphabet: F folds, n the images of one training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import KFold, StratifiedKFold

Index: TypeAlias = NDArray[np.int64]
TrainSet: TypeAlias = tuple[Index, Index]  # (images to train on, images held out)


def kfold_train_sets(num_images: int, *, k: int = 5, seed: int = 12345) -> list[TrainSet]:
    """Split all labelled images into k parts; each training set leaves one part out.

    Args:
        num_images: Labelled images.
        k: Number of parts, 2..num_images.
        seed: Seed of the shuffle; 12345 and k = 5 are the slides' folds.

    Returns:
        k pairs (train, held out) of sorted indices, disjoint, together all images; the held-out parts are disjoint.
        Identical to scikit-learn's KFold(k, shuffle=True, random_state=seed).

    Raises:
        ValueError: If `k` is outside 2..num_images.

    Reference: Golmakani's slides and repository on PSE.
    """
    if not 2 <= k <= num_images:
        raise ValueError(f"k must be in 2..{num_images} (the labelled images), got {k}")
    splitter = KFold(k, shuffle=True, random_state=seed)
    return [
        (train.astype(np.int64), heldout.astype(np.int64)) for train, heldout in splitter.split(np.empty(num_images))
    ]


def official_train_sets(folds_per_image: Sequence[Sequence[int]]) -> list[TrainSet]:
    """The data set's own training sets, such as the ten of STL-10.

    Args:
        folds_per_image: For each labelled image the folds it belongs to; none or several are allowed.

    Returns:
        One pair (train, held out) per fold 0..F-1. Held out is empty: the protocol's point is to know no other labels,
        so what a fold chooses it chooses inside its own images (`inner_train_sets`).

    Raises:
        ValueError: If no image is in a fold, a fold number is negative, or a fold between has no image.

    Reference: Coates, Lee, Ng 2011 (STL-10).
    """
    fold_set = sorted({int(fold) for folds in folds_per_image for fold in folds})
    if not fold_set:
        raise ValueError(f"folds_per_image must put images into folds, got none for {len(folds_per_image)} images")
    if fold_set != list(range(len(fold_set))):
        raise ValueError(f"folds must be numbered 0..{len(fold_set) - 1} without a gap, got {fold_set}")
    members: list[list[int]] = [[] for _ in fold_set]
    for image, folds in enumerate(folds_per_image):
        for fold in {int(fold) for fold in folds}:
            members[fold].append(image)
    return [(np.array(member, dtype=np.int64), np.empty(0, dtype=np.int64)) for member in members]


def few_label_draw(
    label_N: ArrayLike, labels_per_class: int, *, draw: int, seed: int, stratified: bool = True
) -> Index:
    """Draw a small labelled set.

    The draws of one number are nested: with the same `draw` and `seed`, the set with k labels per class is inside the
    set with any larger number, so a few-label curve changes by what was added, not by luck.

    Args:
        label_N: Class of every labelled image, 0..K-1; K is the largest label + 1.
        labels_per_class: How many of each class.
        draw: Number of the draw, 0 and up; different draws are independent.
        seed: Seed of all draws.
        stratified: Exactly `labels_per_class` of each class. False takes the first K x labels_per_class of a random
            permutation, as the student project did: then some classes may have no label at all.

    Returns:
        Sorted indices, K x labels_per_class of them.

    Raises:
        ValueError: If a class has too few images (it is named, with the counts), or an argument is out of range.
    """
    label_N = np.asarray(label_N)
    if labels_per_class < 1:
        raise ValueError(f"labels_per_class must be at least 1, got {labels_per_class}")
    if draw < 0 or seed < 0:
        raise ValueError(f"draw and seed must be 0 or more, got {draw} and {seed}")
    if label_N.ndim != 1 or len(label_N) == 0 or not np.issubdtype(label_N.dtype, np.integer) or label_N.min() < 0:
        raise ValueError(f"label must be a non-empty vector of classes 0 and up, got {label_N.dtype} {label_N.shape}")
    count_K = np.bincount(label_N)
    order_N = np.random.default_rng([seed, draw]).permutation(len(label_N))
    if not stratified:
        size = len(count_K) * labels_per_class
        if size > len(label_N):
            raise ValueError(
                f"{len(count_K)} classes x {labels_per_class} labels need {size} images, got {len(label_N)}"
            )
        return np.sort(order_N[:size])
    poorest = int(count_K.argmin())
    if count_K[poorest] < labels_per_class:
        raise ValueError(f"class {poorest} has {count_K[poorest]} images, {labels_per_class} per class were asked for")
    # a class's images in the order of one permutation of everything: a longer prefix contains the shorter one
    label_order_N = label_N[order_N]
    picked = [order_N[label_order_N == label][:labels_per_class] for label in range(len(count_K))]
    return np.sort(np.concatenate(picked))


def inner_train_sets(label_N: ArrayLike, train: Index, *, k: int = 5, seed: int = 0) -> list[TrainSet]:
    """Split one training set further, to choose a hyper-parameter or to stop early without other labels.

    The parts are stratified. With fewer than k labels in some class there are fewer parts, so that every held-out
    class has training examples in each; a class with a single label is never held out.

    Args:
        label_N: Class of every labelled image.
        train: Indices of the training set to split.
        k: Number of parts wanted, at least 2.
        seed: Seed of the shuffle.

    Returns:
        Up to k pairs (train, held out) of sorted indices into `label_N`; an empty list where no class has two labels.

    Raises:
        ValueError: If `k` < 2, or `train` is empty.
    """
    label_N, train = np.asarray(label_N), np.sort(np.asarray(train, dtype=np.int64))
    if k < 2:
        raise ValueError(f"k must be at least 2, got {k}")
    if len(train) == 0:
        raise ValueError("train must hold at least 1 image, got 0")
    count_n = np.bincount(label_N[train])[label_N[train]]
    single, several = train[count_n == 1], train[count_n > 1]
    if len(several) == 0:
        return []
    splitter = StratifiedKFold(min(k, int(count_n[count_n > 1].min())), shuffle=True, random_state=seed)
    return [
        (np.sort(np.concatenate([several[inner], single])), several[heldout])
        for inner, heldout in splitter.split(several, label_N[several])
    ]


def check_train_sets(train_sets: Sequence[TrainSet], *, num_images: int) -> None:
    """Raise a ValueError unless every training set is usable: indices in range, nothing both trained on and held out.

    Args:
        train_sets: Pairs (train, held out).
        num_images: Labelled images the indices point into.

    Raises:
        ValueError: Naming the fold and the index at fault.
    """
    if len(train_sets) == 0:
        raise ValueError("train_sets must hold at least 1 fold, got 0")
    for fold, (train, heldout) in enumerate(train_sets):
        if len(train) == 0:
            raise ValueError(f"fold {fold} must train on at least 1 image, got 0")
        for index in (train, heldout):
            outside = index[(index < 0) | (index >= num_images)]
            if len(outside):
                raise ValueError(f"fold {fold} must index images 0..{num_images - 1}, got {outside[0]}")
            if len(np.unique(index)) != len(index):
                raise ValueError(
                    f"fold {fold} must hold every image once, got {len(index) - len(np.unique(index))} twice"
                )
        shared = np.intersect1d(train, heldout)
        if len(shared):
            raise ValueError(f"fold {fold} must not train on what it holds out, got image {shared[0]} in both")
