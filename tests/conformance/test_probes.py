"""What every classifier of the probe stage must do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretext.catalog import PROBES
from pretext.tasks.evaluation import score_folds
from pretext.tasks.plans import few_label_plans, plan_folds

NUM_CLASSES, PER_CLASS, WIDTH = 4, 30, 6


@pytest.fixture(params=list(PROBES))
def row(request):
    return PROBES[request.param]


@pytest.fixture
def folder(tmp_path):
    """Where a stopped fit would leave its state."""
    return tmp_path / "resume"


def clusters(spread, seed):
    """Labelled points around one centre a class."""
    generator = np.random.default_rng(seed)
    centre_KD = 4 * np.eye(NUM_CLASSES, WIDTH)
    label_N = np.repeat(np.arange(NUM_CLASSES), PER_CLASS)
    return (centre_KD[label_N] + spread * generator.normal(size=(len(label_N), WIDTH))).astype(np.float32), label_N


def score(row, folder, feature, label, test, test_label):
    plans, _ = plan_folds(label, [[]] * len(label), folds="kfold", k=3, seed=0, has_test=test is not None)
    options = {**row.reads, **({"epochs": 60, "lr": 1e-2} if "epochs" in row.reads else {})}
    shared = {"num_classes": NUM_CLASSES, "seed": 0, "device": torch.device("cpu"), "folder": folder}
    judged = row.load()(feature, label, test, plans, **shared, **options)
    shown = test_label if test is not None else label
    return score_folds(judged, shown, [str(i) for i in range(len(shown))])[0]


@pytest.mark.parametrize("has_test", [True, False])
def test_separable_classes_score_one(row, folder, has_test):
    feature, label = clusters(0.1, seed=0)
    test, test_label = clusters(0.1, seed=1)
    found = score(row, folder, feature, label, test if has_test else None, test_label)
    assert found["ensemble"]["top1"] == 1.0
    assert found["mean"]["top1"] == 1.0


def test_features_without_meaning_score_chance(row, folder):
    generator = np.random.default_rng(0)
    feature, test = (generator.normal(size=(400, WIDTH)).astype(np.float32) for _ in range(2))
    label, test_label = (np.repeat(np.arange(NUM_CLASSES), 100) for _ in range(2))
    found = score(row, folder, feature, label, test, test_label)
    # four standard errors of a share of 400
    assert abs(found["ensemble"]["top1"] - 1 / NUM_CLASSES) < 4 * np.sqrt(0.25 * 0.75 / 400)


def test_few_labels_are_answered_one_a_plan(row, folder):
    feature, label = clusters(0.1, seed=0)
    test, _ = clusters(0.1, seed=1)
    plans = few_label_plans(label, (1, 4), draws=2, seed=0, stratified=True, has_test=True)
    options = {**row.reads, **({"epochs": 20} if "epochs" in row.reads else {})}
    judged = row.load()(feature, label, test, [few.plan for few in plans], num_classes=NUM_CLASSES, seed=0,
                        device=torch.device("cpu"), folder=folder, **options)  # fmt: skip
    assert [answer.logit_NK.shape for answer in judged] == [(len(test), NUM_CLASSES)] * 4


def test_fold_models_differ_because_each_leaves_another_part_out(row, folder):
    feature, label = clusters(3.0, seed=0)
    test, test_label = clusters(3.0, seed=1)
    folds = score(row, folder, feature, label, test, test_label)["folds"]
    assert len({fold["loss"] for fold in folds}) == 3
