"""What must hold for any input: shards, the sampler, splits, and the numbers of a report."""

from __future__ import annotations

import importlib.util
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fault_counts import FACTOR, count
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

from pretext.artifacts import atomic
from pretext.artifacts.layout import find_runs
from pretext.artifacts.shards import Shard, Split, write_shard
from pretext.reports.compare import compare
from pretext.reports.gather import gather
from pretext.tasks.folds import few_label_draw, inner_train_sets, kfold_train_sets, official_train_sets
from pretext.training.order import epoch_order
from pretext.training.parallel import Alone

SUITE = "property of shards, sampler, splits or report"


def property_test(examples):
    return settings(max_examples=examples * FACTOR, deadline=None, derandomize=FACTOR == 1,
                    suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch):
    monkeypatch.setattr(atomic.os, "fsync", lambda number: None)


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
ROW = st.tuples(TEXT, st.none() | st.integers(0, 2**31 - 1), st.lists(st.integers(-(2**15), 2**15 - 1), max_size=4))


@property_test(40)
@given(
    shards=st.lists(st.lists(ROW, max_size=6), min_size=1, max_size=4),
    size=st.integers(1, 9),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_shards_give_back_any_images_with_any_names_labels_and_folds(tmp_path, shards, size, seed, data):
    generator = np.random.default_rng(seed)
    opened, written = [], []
    for number, rows in enumerate(shards):
        images = generator.integers(0, 256, (len(rows), size, size, 3), dtype=np.uint8)
        if number % 2:
            images = images.transpose(0, 2, 1, 3)  # another layout in memory
        full = [(name, image, label, folds) for (name, label, folds), image in zip(rows, images, strict=True)]
        assert write_shard(tmp_path / f"{number}.arrow", full, image_size=size) == len(full)
        opened.append(Shard(tmp_path / f"{number}.arrow"))
        written += full
    split = Split(opened, size)
    assert len(split) == len(written)
    assert split.ids() == [name for name, *_ in written]
    assert split.labels().tolist() == [-1 if label is None else label for _, _, label, _ in written]
    assert [list(folds) for folds in split.folds()] == [list(folds) for *_, folds in written]
    if written:
        index = np.array(data.draw(st.lists(st.integers(0, len(written) - 1), min_size=1, max_size=9)))
        np.testing.assert_array_equal(split.images.read(index), np.stack([written[i][1] for i in index]))
    count(SUITE, 1, 1, inputs=1)


def process(rank, size):
    team = Alone()
    team.rank, team.size = rank, size
    return team


@property_test(150)
@given(st.data())
def test_processes_see_each_image_once_an_epoch_from_any_step_on(data):
    num_images = data.draw(st.integers(2, 200), "images")
    batch_size = data.draw(st.integers(2, num_images), "batch")
    size = data.draw(st.integers(1, min(batch_size, 9)), "processes")
    accumulate = data.draw(st.integers(1, 9), "parts")
    steps = num_images // batch_size
    first = data.draw(st.integers(0, steps), "first step")
    again = [
        (number, data.draw(st.integers(0, steps - 1), "rewound to"))
        for number in range(1, data.draw(st.integers(1, 4)))
    ]
    options = {"seed": data.draw(st.integers(0, 2**31 - 1)), "epoch": data.draw(st.integers(0, 10**6)), "again": again}
    whole = list(epoch_order(num_images, batch_size, **options))
    rest = list(epoch_order(num_images, batch_size, first=first, **options))
    assert len(whole) == steps
    assert [index_B.tolist() for index_B in rest] == [index_B.tolist() for index_B in whole[first:]]
    seen = []
    for index_B in [*whole[:first], *rest]:
        for rank in range(size):
            spans = process(rank, size).spans(batch_size, accumulate)
            seen += [index for span in spans for index in index_B[span.start : span.stop].tolist()]
    assert len(seen) == steps * batch_size, "whole batches only"
    assert len(set(seen)) == len(seen), "no image twice"
    assert set(seen) <= set(range(num_images))
    count(SUITE, 1, 1, inputs=1)


LABELS = st.lists(st.integers(0, 4), min_size=20, max_size=120).map(np.array)


def shares(label_N):
    return np.bincount(label_N, minlength=5)


@property_test(60)
@given(label_N=LABELS, k=st.integers(2, 6), seed=st.integers(0, 2**31))
def test_training_sets_are_disjoint_from_what_they_are_judged_on_stratified_and_always_the_same(label_N, k, seed):
    outer = kfold_train_sets(len(label_N), k=k, seed=seed)
    assert sorted(np.concatenate([heldout for _, heldout in outer]).tolist()) == list(range(len(label_N)))
    for (train, heldout), (same, _) in zip(outer, kfold_train_sets(len(label_N), k=k, seed=seed), strict=True):
        assert sorted([*train, *heldout]) == list(range(len(label_N)))
        assert np.array_equal(train, same)
        inner = inner_train_sets(label_N, train, k=k, seed=seed)
        for inside, chosen_by in inner:
            assert sorted([*inside, *chosen_by]) == train.tolist()
        # every class is spread as evenly as its number allows
        for label in range(5):
            parts = [int((label_N[chosen_by] == label).sum()) for _, chosen_by in inner]
            assert not parts or max(parts) - min(parts) <= 1
        again = inner_train_sets(label_N, train[::-1], k=k, seed=seed)
        assert all(np.array_equal(a[0], b[0]) for a, b in zip(inner, again, strict=True)), (
            "in whatever order they are given"
        )
    count(SUITE, 1, 1, inputs=1)


@property_test(60)
@given(label_N=LABELS, draw=st.integers(0, 20), seed=st.integers(0, 2**31))
def test_few_labels_are_as_many_of_each_class_nested_and_always_the_same(label_N, draw, seed):
    present = np.unique(label_N, return_inverse=True)[1]
    poorest = int(np.bincount(present).min())
    sets = [few_label_draw(present, labels_per_class=number, draw=draw, seed=seed) for number in range(1, poorest + 1)]
    for number, index in enumerate(sets, start=1):
        assert len(set(index.tolist())) == len(index)
        assert (np.bincount(present[index]) == number).all()
        assert np.array_equal(index, few_label_draw(present, labels_per_class=number, draw=draw, seed=seed))
    assert all(set(small) < set(large) for small, large in pairwise(sets))
    count(SUITE, 1, 1, inputs=1)


@property_test(60)
@given(st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=8, max_size=60))
def test_official_folds_are_the_images_that_say_so(folds):
    there = sorted({fold for own in folds for fold in own})
    if there != list(range(len(there))) or not there:
        with pytest.raises(ValueError, match="folds"):
            official_train_sets(folds)
    else:
        for fold, (train, heldout) in enumerate(official_train_sets(folds)):
            assert train.tolist() == [image for image, own in enumerate(folds) if fold in own]
            assert not len(heldout)
    count(SUITE, 1, 1, inputs=1)


def _fabricate():
    path = Path(__file__).parents[1] / "unit" / "reports" / "fabricate.py"
    spec = importlib.util.spec_from_file_location("fabricated_study", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FABRICATE = _fabricate()


@pytest.mark.parametrize("seed", range(FACTOR))
def test_the_numbers_of_a_report_are_those_of_the_predictions(tmp_path, seed):
    """Read the files anew with pyarrow, compute with scikit-learn, and compare every entry of every evaluation."""
    data, draw = FABRICATE.make_data(tmp_path / "data" / "shapes", num_test=200, seed=seed), np.random.default_rng(seed)
    for name, loss in (("a", "mse"), ("b", "l1"), ("c", None)):
        for number in range(2):
            layout = FABRICATE.make_run(tmp_path / "runs" / f"{name}-s{number}", data, loss=loss, seed=number)
            FABRICATE.make_features(layout, data)
            for stem in ("probe-linear", "probe-knn"):
                FABRICATE.make_result(layout, stem, data, quality=draw.uniform(-1, 3), seed=number)
    study = compare(gather(find_runs((tmp_path / "runs",))))
    assert not study.issues
    compared = 0
    for evaluation in study.evaluations:
        for entry in evaluation.entries:
            found = []
            for result in entry.results.values():
                stem = tmp_path / "runs" / result.run / result.stem
                table = pq.read_table(f"{stem}-predictions.parquet").to_pydict()
                prob_NK = np.array(table["prob"])
                label_N = np.array(table["label"])
                classes = np.arange(prob_NK.shape[1])
                found.append(accuracy_score(label_N, prob_NK.argmax(axis=1)))
                for k in (2, 4, 5):
                    assert result.top(k) == pytest.approx(top_k_accuracy_score(label_N, prob_NK, k=k, labels=classes))
                assert result.top(1) == pytest.approx(found[-1])
                stated = json.loads(stem.with_suffix(".json").read_text())["ensemble"]
                assert stated["loss"] == pytest.approx(log_loss(label_N, prob_NK / prob_NK.sum(1, keepdims=True),
                                                                labels=classes), rel=1e-5)  # fmt: skip
                compared += 1
            assert entry.top1 == pytest.approx(np.mean(found))
    assert compared == 12
    count(SUITE, compared, compared, inputs=compared)
