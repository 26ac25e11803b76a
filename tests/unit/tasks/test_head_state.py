"""Heads in a folder: scale does not matter where it should not, and a stopped fit goes on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretext.errors import PretextError
from pretext.tasks import head_state
from pretext.tasks.folds import kfold_train_sets
from pretext.tasks.head_state import fit_heads_in
from pretext.tasks.heads import build_head

RECIPE = {"num_classes": 3, "epochs": 12, "lr": 1e-2, "save_every": 2}


def problem(scale=1.0, shift=0.0):
    generator = np.random.default_rng(0)
    label_N = np.repeat(np.arange(3), 30)
    feature_ND = np.eye(3, 8)[label_N] + 0.3 * generator.normal(size=(90, 8))
    feature_ND[:, 7] = 0.5  # constant: its spread is 0
    return (scale * feature_ND + shift).astype(np.float32), label_N


@pytest.mark.parametrize("kind", ["linear", "slides"])
def test_standardised_heads_answer_alike_at_any_scale(tmp_path, kind):
    answers = []
    for number, (scale, shift) in enumerate([(1.0, 0.0), (1e-3, 0.0), (64.0, 16.0)]):
        feature, label = problem(scale, shift)
        heads = fit_heads_in(
            tmp_path / str(number), feature, label, kfold_train_sets(90, k=3), standardize=True, kind=kind, **RECIPE
        )
        answers.append(np.stack([head.logits(feature) for head in heads]))
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(answers[2], answers[0], rtol=1e-3, atol=1e-3)


def test_the_folded_head_is_a_module_for_raw_features(tmp_path):
    feature, label = problem(10.0, 3.0)
    (head, *_) = fit_heads_in(
        tmp_path, feature, label, kfold_train_sets(90, k=3), standardize=True, kind="slides", **RECIPE
    )
    module = build_head("slides", 8, 3).eval()
    module.load_state_dict(head.state_dict)
    with torch.no_grad():
        found = module(torch.from_numpy(feature)).numpy()
    np.testing.assert_allclose(found, head.logits(feature), rtol=1e-4, atol=1e-5)
    assert (found.argmax(1) == label).mean() > 0.8


@pytest.mark.parametrize("standardize", [True, False])
def test_a_stopped_fit_ends_with_the_same_bits(tmp_path, monkeypatch, standardize):
    feature, label = problem()
    sets = kfold_train_sets(90, k=3)
    whole = fit_heads_in(tmp_path / "whole", feature, label, sets, standardize=standardize, kind="slides", **RECIPE)
    saved = head_state.save_state

    def stop_after_saving(folder, *arguments, **more):
        saved(folder, *arguments, **more)
        raise KeyboardInterrupt

    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(head_state, "save_state", stop_after_saving)
            with pytest.raises(KeyboardInterrupt):
                fit_heads_in(
                    tmp_path / "stopped", feature, label, sets, standardize=standardize, kind="slides", **RECIPE
                )
    again = fit_heads_in(tmp_path / "stopped", feature, label, sets, standardize=standardize, kind="slides", **RECIPE)
    for one, two in zip(whole, again, strict=True):
        assert all(torch.equal(one.state_dict[name], two.state_dict[name]) for name in one.state_dict)


def test_a_loss_that_is_not_finite_is_told(tmp_path):
    feature, label = problem()
    with pytest.raises(PretextError, match="the classifier could not be trained: .*loss must stay finite, got"):
        fit_heads_in(tmp_path, feature, label, kfold_train_sets(90, k=3), standardize=False, kind="linear",
                     **{**RECIPE, "lr": 1e38, "grad_clip": 0.0})  # fmt: skip
