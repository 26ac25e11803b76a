"""Classifier heads: shape, agreement with a plain torch loop, independence of the folds, restarts, refusals."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pretext.tasks.folds import kfold_train_sets
from pretext.tasks.heads import HeadFit, build_head, fit_heads
from pretext.tasks.scores import fold_scores


def noisy_classes(num_images: int = 90, num_features: int = 7, num_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    label_N = np.arange(num_images) % num_classes
    centre_KD = rng.normal(size=(num_classes, num_features))
    return (centre_KD[label_N] + rng.normal(size=(num_images, num_features))).astype(np.float32), label_N


def fit(**changes: Any) -> list[HeadFit]:
    feature_ND, label_N = noisy_classes()
    arguments: dict[str, Any] = {
        "train_sets": kfold_train_sets(90, k=4), "kind": "slides", "num_classes": 3, "epochs": 6, "lr": 1e-2,
        "batch_size": 16,
    }  # fmt: skip
    arguments |= changes
    return fit_heads(feature_ND, label_N, arguments.pop("train_sets"), **arguments)


def assert_same_fits(some: list[HeadFit], others: list[HeadFit], **tolerance: float) -> None:
    for one, other in zip(some, others, strict=True):
        assert (one.best_epoch, one.stopped_early) == (other.best_epoch, other.stopped_early)
        for name, value in one.state_dict.items():
            torch.testing.assert_close(other.state_dict[name], value, **tolerance)
        np.testing.assert_allclose(one.heldout_loss, other.heldout_loss, rtol=tolerance["rtol"], atol=tolerance["atol"])
        np.testing.assert_allclose(one.train_loss, other.train_loss, rtol=tolerance["rtol"], atol=tolerance["atol"])


EXACT = {"rtol": 0.0, "atol": 0.0}


def test_slides_head_has_their_layers() -> None:
    head = build_head("slides", 256, 10)
    kinds = [type(layer).__name__ for layer in head]
    assert kinds == ["Linear", "Sigmoid", "Dropout", "Linear", "Sigmoid", "Dropout", "Linear"]
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.1, 0.5]
    assert [tuple(value.shape) for value in head.parameters()] == [
        (128, 256),
        (128,),
        (128, 128),
        (128,),
        (10, 128),
        (10,),
    ]


def test_linear_head_is_one_layer() -> None:
    assert [tuple(value.shape) for value in build_head("linear", 5, 3).parameters()] == [(3, 5), (3,)]


@pytest.mark.parametrize("kind", ["linear", "slides"])
def test_states_load_into_the_module_and_give_the_same_logits(kind: str) -> None:
    feature_ND, _ = noisy_classes()
    head = build_head(kind, 7, 3).eval()
    for one in fit(kind=kind):
        head.load_state_dict(one.state_dict)
        expected = head(torch.from_numpy(feature_ND)).detach().numpy()
        np.testing.assert_allclose(one.logits(feature_ND), expected, rtol=1e-5, atol=1e-6)


def plain_loop(train: np.ndarray, heldout: np.ndarray, head: nn.Module, *, epochs: int, lr: float, decay: float):
    """One fold by torch's own parts; one batch an epoch, so that the order plays no part."""
    feature_ND, label_N = (torch.from_numpy(array) for array in noisy_classes())
    optimizer = torch.optim.Adam(head.parameters(), lr=lr, weight_decay=decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)
    train_losses, heldout_losses, rates = [], [], []
    for _ in range(epochs):
        loss = nn.functional.cross_entropy(head(feature_ND[train]), label_N[train])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 0.2)
        optimizer.step()
        with torch.no_grad():
            heldout_loss = nn.functional.cross_entropy(head(feature_ND[heldout]), label_N[heldout]).item()
        scheduler.step(heldout_loss)
        rates.append(scheduler.get_last_lr()[0])
        train_losses.append(loss.item())
        heldout_losses.append(heldout_loss)
    return train_losses, heldout_losses, rates


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_agrees_with_torchs_adam_clipping_and_plateau(decay: float) -> None:
    sets = kfold_train_sets(90, k=4)
    shape = {"kind": "linear", "batch_size": 128, "grad_clip": 0.2, "plateau_factor": 0.5, "plateau_patience": 2}
    start: dict[str, Any] = {}
    fit(**shape, epochs=1, lr=1e-30, save=lambda state, progress: start.update(state), save_every=1)
    fits = fit(**shape, epochs=60, lr=0.3, weight_decay=decay, patience=0)
    for f, (one, (train, heldout)) in enumerate(zip(fits, sets, strict=True)):
        head = build_head("linear", 7, 3)
        head.load_state_dict({name: start[f"trained.{name}"][f] for name in head.state_dict()})
        train_losses, heldout_losses, rates = plain_loop(train, heldout, head, epochs=60, lr=0.3, decay=decay)
        assert rates[-1] < 0.3  # the plateau was met
        np.testing.assert_allclose(one.train_loss, train_losses, rtol=1e-4)
        np.testing.assert_allclose(one.heldout_loss, heldout_losses, rtol=1e-4)
        assert one.best_epoch == int(np.argmin(heldout_losses)) + 1


def test_same_seed_same_bits_and_global_random_numbers_untouched() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = fit(seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert_same_fits(first, fit(seed=3), **EXACT)
    other = fit(seed=4)
    assert not torch.equal(first[0].state_dict["0.weight"], other[0].state_dict["0.weight"])


def test_folds_start_from_different_weights() -> None:
    first, second, *_ = fit(epochs=1, lr=1e-30)
    assert not torch.equal(first.state_dict["0.weight"], second.state_dict["0.weight"])


def test_a_fold_does_not_depend_on_its_company() -> None:
    sets = kfold_train_sets(90, k=4)
    # fold 0 runs out of patience early, the last two differ in size, so steps and company change on the way
    sets = [(sets[0][0], sets[0][1][:2]), (sets[1][0][:20], sets[1][1]), *sets[2:]]
    together = fit(train_sets=sets, epochs=12, patience=2, lr=0.05)
    assert len({len(one.heldout_loss) for one in together}) > 1
    for f in range(4):
        alone = fit(train_sets=[sets[f]], fold_numbers=[f], epochs=12, patience=2, lr=0.05)
        assert_same_fits([together[f]], alone, rtol=1e-4, atol=1e-5)


def test_patience_stops_a_fold_and_the_best_weights_are_kept() -> None:
    feature_ND, label_N = noisy_classes()
    for one, (_, heldout) in zip(fit(epochs=80, patience=3, lr=0.05), kfold_train_sets(90, k=4), strict=True):
        assert one.stopped_early
        assert len(one.heldout_loss) == len(one.train_loss) == one.best_epoch + 3
        assert min(one.heldout_loss) == one.heldout_loss[one.best_epoch - 1]
        scores = fold_scores(one.logits(feature_ND[heldout]), label_N[heldout])
        assert scores["loss"] == pytest.approx(min(one.heldout_loss), rel=1e-4)


def test_without_held_out_images_a_fold_runs_to_the_end() -> None:
    sets = kfold_train_sets(90, k=4)
    mixed = fit(train_sets=[sets[0], (sets[1][0], np.arange(0))], epochs=40, patience=2, lr=0.05)
    assert mixed[0].stopped_early
    assert not mixed[1].stopped_early
    assert (mixed[1].best_epoch, len(mixed[1].train_loss), mixed[1].heldout_loss) == (40, 40, [])


@pytest.mark.parametrize("stop_after", [2, 6])
def test_an_interrupted_fit_ends_with_the_same_bits(stop_after: int) -> None:
    options = {"epochs": 9, "patience": 3, "lr": 0.05, "seed": 5}
    saved: list[tuple[dict[str, torch.Tensor], str]] = []

    def save(state: dict[str, torch.Tensor], progress: dict[str, Any]) -> None:
        saved.append((state, json.dumps(progress, allow_nan=False)))

    whole = fit(**options, save=save, save_every=2)
    assert [json.loads(text)["epoch"] for _, text in saved] == [2, 4, 6, 8][: len(saved)]
    state, text = saved[stop_after // 2 - 1]
    assert_same_fits(whole, fit(**options, resume=(state, json.loads(text))), **EXACT)


def test_a_finished_fit_resumes_to_itself() -> None:
    saved: list[Any] = []
    whole = fit(save=lambda *args: saved.append(args), save_every=6)
    assert_same_fits(whole, fit(resume=saved[-1]), **EXACT)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_schedules_change_the_course(schedule: str) -> None:
    plain = fit(kind="linear", epochs=20)
    other = fit(kind="linear", epochs=20, schedule=schedule)
    moved = not torch.equal(plain[0].state_dict["0.weight"], other[0].state_dict["0.weight"])
    assert moved == (schedule == "cosine")  # no plateau within 20 epochs: constant is the same course
    slow = fit(kind="linear", epochs=2, schedule=schedule, warmup_epochs=2)
    assert slow[0].train_loss[1] > fit(kind="linear", epochs=2, schedule=schedule)[0].train_loss[1]


@pytest.mark.parametrize("kind", ["linear", "slides"])
def test_perfect_features_score_one(kind: str) -> None:
    label_N = np.arange(400) % 10
    feature_ND = (8 * np.eye(10)[label_N]).astype(np.float32)
    options = {"kind": kind, "num_classes": 10, "epochs": 60, "lr": 1e-2, "batch_size": 64}
    for one, (_, heldout) in zip(
        fit_heads(feature_ND, label_N, kfold_train_sets(400, k=2), **options), kfold_train_sets(400, k=2), strict=True
    ):
        assert fold_scores(one.logits(feature_ND[heldout]), label_N[heldout])["top1"] == 1.0


def test_shuffled_labels_score_chance() -> None:
    rng = np.random.default_rng(0)
    label_N = rng.permutation(np.arange(1000) % 10)
    feature_ND = rng.normal(size=(1000, 5)).astype(np.float32)
    (one,) = fit_heads(
        feature_ND, label_N, kfold_train_sets(1000, k=2)[:1], kind="slides", num_classes=10, epochs=10, lr=1e-2
    )
    heldout = kfold_train_sets(1000, k=2)[0][1]
    assert fold_scores(one.logits(feature_ND[heldout]), label_N[heldout])["top1"] == pytest.approx(0.1, abs=0.05)


def test_read_only_arrays_are_taken() -> None:
    feature_ND, label_N = noisy_classes()
    feature_ND.flags.writeable = label_N.flags.writeable = False
    (one,) = fit_heads(feature_ND, label_N, kfold_train_sets(90, k=2)[:1], kind="linear", num_classes=3, epochs=1)
    assert one.logits(feature_ND).shape == (90, 3)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"head must be one of \['linear', 'slides'\], got 'mlp'"):
        build_head("mlp", 3, 2)
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        fit(epochs=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        fit(batch_size=0)
    with pytest.raises(ValueError, match="save_every must be at least 1, got 0"):
        fit(save_every=0)
    with pytest.raises(ValueError, match=r"lr must be positive, got -0\.1"):
        fit(lr=-0.1)
    with pytest.raises(ValueError, match=r"schedule must be one of .*, got 'step'"):
        fit(schedule="step")
    with pytest.raises(ValueError, match=r"fold_numbers must be 4 different numbers, got \[0, 1, 1, 2\]"):
        fit(fold_numbers=[0, 1, 1, 2])
    with pytest.raises(ValueError, match=r"fold 0: loss must stay finite, got (nan|inf) at epoch 1; lower lr 1e\+38"):
        fit(kind="linear", lr=1e38, epochs=3)
    with pytest.raises(ValueError, match=r"label must be in 0..1, got 2"):
        fit(num_classes=2)
    saved: list[Any] = []
    fit(save=lambda *args: saved.append(args), save_every=3)
    with pytest.raises(ValueError, match=r"resume must be of folds \[4, 5, 6, 7\], got \[0, 1, 2, 3\]"):
        fit(fold_numbers=[4, 5, 6, 7], resume=saved[0])
