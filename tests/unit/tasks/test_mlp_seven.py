"""Seven perceptrons fitted to one-hot labels: the squared error, the choice among them, and what is told of all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pretext.tasks.evaluation import Judged
from pretext.tasks.folds import kfold_train_sets
from pretext.tasks.heads import build_head, fit_heads
from pretext.tasks.plans import FoldPlan
from pretext.tasks.probes import PREDICTORS, judge_mlp_seven, predictor_rows

EMPTY = np.empty(0, np.int64)


def clusters(num_images: int = 90, num_features: int = 7, num_classes: int = 3, seed: int = 0):
    centre_KD = np.random.default_rng(0).normal(size=(num_classes, num_features))
    label_N = np.arange(num_images) % num_classes
    noise = np.random.default_rng(seed).normal(size=(num_images, num_features))
    return (centre_KD[label_N] + noise).astype(np.float32), label_N


def rings(num_images: int, seed: int):
    """Two classes that no line divides."""
    rng = np.random.default_rng(seed)
    label_N, angle_N = np.arange(num_images) % 2, rng.uniform(0, 2 * np.pi, num_images)
    radius_N = 1 + 2 * label_N + rng.normal(0, 0.1, num_images)
    return np.stack([radius_N * np.cos(angle_N), radius_N * np.sin(angle_N)], 1).astype(np.float32), label_N


def judge(tmp_path, feature_ND, label_N, test_MD, plans, **options: Any):
    recipe: dict[str, Any] = {"epochs": 30, "lr": 1e-2, "patience": 25, **options}
    return judge_mlp_seven(feature_ND, label_N, test_MD, plans, num_classes=int(label_N.max()) + 1, seed=0,
                           device=torch.device("cpu"), folder=tmp_path / "resume", **recipe)  # fmt: skip


def test_a_head_of_widths_has_leaky_relu_behind_each_hidden_layer():
    assert [type(layer).__name__ for layer in build_head((64, 32), 5, 3)] == ["Linear", "LeakyReLU"] * 2 + ["Linear"]
    assert [tuple(value.shape) for value in build_head((64, 32), 5, 3).parameters()] == [
        (64, 5), (64,), (32, 64), (32,), (3, 32), (3,),
    ]  # fmt: skip
    assert [type(layer).__name__ for layer in build_head((), 5, 3)] == ["Linear"]


@pytest.mark.parametrize("hidden", [(), (8, 4)])
def test_it_learns_as_torchs_adam_on_the_mse_of_one_hot_labels(hidden):
    feature_ND, label_N = clusters()
    sets = kfold_train_sets(90, k=3)
    recipe: dict[str, Any] = {"kind": hidden, "num_classes": 3, "loss": "one-hot", "batch_size": 128, "grad_clip": 0.0,
                              "schedule": "constant", "patience": 0}  # fmt: skip
    start: dict[str, Any] = {}
    fit_heads(feature_ND, label_N, sets, **recipe, epochs=1, lr=1e-30, save=lambda state, _: start.update(state),
              save_every=1)  # fmt: skip
    fits = fit_heads(feature_ND, label_N, sets, **recipe, epochs=40, lr=1e-2)
    feature, one_hot = torch.from_numpy(feature_ND), nn.functional.one_hot(torch.from_numpy(label_N), 3).float()
    for f, (fit, (train, heldout)) in enumerate(zip(fits, sets, strict=True)):
        head = build_head(hidden, 7, 3)
        head.load_state_dict({name: start[f"trained.{name}"][f] for name in head.state_dict()})
        optimizer, losses, heldout_losses = torch.optim.Adam(head.parameters(), lr=1e-2), [], []
        for _ in range(40):
            loss = nn.functional.mse_loss(head(feature[train]), one_hot[train])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            heldout_losses.append(nn.functional.mse_loss(head(feature[heldout]), one_hot[heldout]).item())
        np.testing.assert_allclose(fit.train_loss, losses, rtol=1e-4)
        np.testing.assert_allclose(fit.heldout_loss, heldout_losses, rtol=1e-4)
        assert fit.best_epoch == int(np.argmin(heldout_losses)) + 1
        head.load_state_dict(fit.state_dict)
        np.testing.assert_allclose(fit.logits(feature_ND), head(feature).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_the_linear_one_finds_the_least_squares_solution():
    feature_ND, label_N = clusters(120, 4)
    (fit,) = fit_heads(feature_ND, label_N, [(np.arange(120), EMPTY)], kind=(), num_classes=3, loss="one-hot",
                       epochs=600, lr=1e-2, batch_size=128, schedule="cosine", grad_clip=0.0)  # fmt: skip
    design = np.c_[feature_ND, np.ones(120)].astype(np.float64)
    solution, *_ = np.linalg.lstsq(design, np.eye(3)[label_N], rcond=None)
    np.testing.assert_allclose(fit.logits(feature_ND), design @ solution, atol=1e-3)


def test_an_unknown_loss_is_refused():
    feature_ND, label_N = clusters()
    with pytest.raises(ValueError, match=r"loss must be one of \['cross-entropy', 'one-hot'\], got 'mse'"):
        fit_heads(feature_ND, label_N, kfold_train_sets(90, k=2), kind=(), num_classes=3, loss="mse")


def test_where_no_line_divides_the_classes_a_hidden_layer_is_chosen_and_the_linear_one_is_told_too(tmp_path):
    feature_ND, label_N = rings(400, seed=0)
    test_MD, test_label_M = rings(200, seed=1)
    plans = [FoldPlan(fit, heldout, None) for fit, heldout in kfold_train_sets(400, k=2)]
    judged = judge(tmp_path, feature_ND, label_N, test_MD, plans, epochs=60)
    rows = predictor_rows(judged, test_label_M)
    assert [tuple(row["hidden"]) for row in rows] == list(PREDICTORS)
    assert rows[0]["top1"] < 0.7
    assert rows[-1]["top1"] > 0.95
    assert all(fold.chosen["hidden"] != "none" for fold in judged)
    for fold in judged:
        number = [("-".join(map(str, hidden)) or "none") for hidden in PREDICTORS].index(fold.chosen["hidden"])
        np.testing.assert_array_equal(fold.logit_NK, fold.logit_PNK[number])
        assert fold.heldout_top1_P[number] == max(fold.heldout_top1_P)


def test_the_test_images_have_no_part_in_the_choice(tmp_path):
    feature_ND, label_N = clusters(seed=1)
    plans = [FoldPlan(fit, heldout, None) for fit, heldout in kfold_train_sets(90, k=2)]
    one = judge(tmp_path / "a", feature_ND, label_N, clusters(30, seed=2)[0], plans, epochs=8)
    other = judge(tmp_path / "b", feature_ND, label_N, -clusters(30, seed=3)[0], plans, epochs=8)
    assert [fold.chosen for fold in one] == [fold.chosen for fold in other]


def test_told_accuracies_are_means_over_folds_of_what_the_stored_answers_score(tmp_path):
    feature_ND, label_N = clusters()
    plans = [FoldPlan(fit[::2], fit[1::2], heldout) for fit, heldout in kfold_train_sets(90, k=3)]
    judged = judge(tmp_path, feature_ND, label_N, None, plans, epochs=8)
    rows = predictor_rows(judged, label_N)
    for number, row in enumerate(rows):
        right = [
            fold.logit_PNK[number][plan.judge].argmax(1) == label_N[plan.judge] for fold, plan in zip(judged, plans)
        ]
        chose = [
            fold.logit_PNK[number][plan.select].argmax(1) == label_N[plan.select] for fold, plan in zip(judged, plans)
        ]
        assert row["top1"] == pytest.approx(np.mean([part.mean() for part in right]))
        assert row["heldout_top1"] == pytest.approx(np.mean([part.mean() for part in chose]))


def test_without_choosing_images_a_part_of_a_plans_own_chooses_and_of_single_labels_none(tmp_path):
    feature_ND, label_N = clusters()
    several, single = FoldPlan(np.arange(30), EMPTY, None), FoldPlan(np.arange(3), EMPTY, None)
    judged = judge(tmp_path, feature_ND, label_N, feature_ND, [several, single], epochs=5)
    assert [fold.chosen["by"] for fold in judged] == ["inner", "default"]
    assert judged[1].chosen == {"hidden": "none", "epoch": 5, "by": "default"}
    assert judged[1].heldout_top1_P is None
    assert predictor_rows(judged[1:], label_N)[0]["heldout_top1"] is None


def test_another_classifier_has_no_predictors_to_tell():
    assert predictor_rows([Judged(np.zeros((3, 2)))], np.zeros(3, np.int64)) == []


def test_called_again_after_a_stop_it_ends_with_the_same_bits(tmp_path, monkeypatch):
    from pretext.tasks import head_state

    feature_ND, label_N = clusters()
    plans = [FoldPlan(fit, heldout, None) for fit, heldout in kfold_train_sets(90, k=2)]
    whole = judge(tmp_path / "whole", feature_ND, label_N, feature_ND, plans, epochs=12)
    calls, save = [], head_state.save_state

    def save_and_die(*arguments, **options):
        save(*arguments, **options)
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(head_state, "save_state", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        judge(tmp_path / "stopped", feature_ND, label_N, feature_ND, plans, epochs=12)
    again = judge(tmp_path / "stopped", feature_ND, label_N, feature_ND, plans, epochs=12)
    for one, other in zip(whole, again, strict=True):
        assert one.chosen == other.chosen
        for mine, theirs in zip(one.logit_PNK, other.logit_PNK, strict=True):
            np.testing.assert_array_equal(mine, theirs)
