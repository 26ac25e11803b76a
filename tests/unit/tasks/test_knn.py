"""Nearest neighbours: agreement with a loop and with scikit-learn, leave-one-out, clipping, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import Tensor

from pretext.tasks import knn
from pretext.tasks.knn import KnnVotes, choose_k, knn_votes, leave_one_out_votes


@pytest.fixture
def images() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    label_N = torch.arange(60) % 3
    train_ND = (
        torch.randn(60, 8, generator=generator, dtype=torch.float64) + torch.eye(3, 8, dtype=torch.float64)[label_N]
    )
    return train_ND, label_N, torch.randn(17, 8, generator=generator, dtype=torch.float64)


def slow_votes(train: np.ndarray, label: np.ndarray, test: np.ndarray, k: int, num_classes: int, temperature: float):
    votes = np.zeros((len(test), num_classes))
    for m, image in enumerate(test):
        cosines = [float(image @ other) / math.sqrt(float(image @ image) * float(other @ other)) for other in train]
        for n in sorted(range(len(train)), key=lambda n: -cosines[n])[:k]:
            votes[m, label[n]] += math.exp(cosines[n] / temperature)
    return votes / votes.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_agrees_with_a_loop(images, temperature: float) -> None:
    train_ND, label_N, test_MD = images
    votes = knn_votes(train_ND, label_N, test_MD, num_classes=4, neighbours=(1, 5, 60), temperature=temperature)
    for k in (1, 5, 60):
        expected = slow_votes(train_ND.numpy(), label_N.numpy(), test_MD.numpy(), k, 4, temperature)
        np.testing.assert_allclose(votes.prob_MK[k].numpy(), expected, rtol=1e-9, atol=1e-12)
        assert votes.used_k[k] == k


def test_agrees_with_scikit_learn(images) -> None:
    train_ND, label_N, test_MD = images
    model = KNeighborsClassifier(
        n_neighbors=7, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    model.fit(train_ND.numpy(), label_N.numpy())
    votes = knn_votes(train_ND, label_N, test_MD, num_classes=3, neighbours=[7])
    np.testing.assert_allclose(votes.prob_MK[7].numpy(), model.predict_proba(test_MD.numpy()), rtol=1e-9, atol=1e-12)


def test_one_neighbour_is_scikit_learns_nearest(images) -> None:
    train_ND, label_N, test_MD = images
    index = NearestNeighbors(n_neighbors=1, metric="cosine").fit(train_ND.numpy())
    nearest = index.kneighbors(test_MD.numpy(), return_distance=False)[:, 0]
    votes = knn_votes(train_ND, label_N, test_MD, num_classes=3, neighbours=[1])
    assert votes.prob_MK[1].argmax(dim=1).tolist() == label_N[nearest].tolist()
    assert (votes.prob_MK[1].amax(dim=1) == 1).all()


def test_leave_one_out_is_leaving_one_out(images) -> None:
    train_ND, label_N, _ = images
    votes = leave_one_out_votes(train_ND, label_N, num_classes=3, neighbours=(3, 20))
    for n in range(60):
        others = torch.arange(60) != n
        alone = knn_votes(train_ND[others], label_N[others], train_ND[n : n + 1], num_classes=3, neighbours=(3, 20))
        for k in (3, 20):
            torch.testing.assert_close(votes.prob_MK[k][n], alone.prob_MK[k][0], rtol=1e-9, atol=1e-12)


def test_chunks_change_nothing(images, monkeypatch: pytest.MonkeyPatch) -> None:
    train_ND, label_N, test_MD = images
    whole = knn_votes(train_ND, label_N, test_MD, num_classes=3, neighbours=(2, 9))
    whole_loo = leave_one_out_votes(train_ND, label_N, num_classes=3, neighbours=(2, 9))
    monkeypatch.setattr(knn, "CHUNK_ELEMENTS", 250)
    parts = knn_votes(train_ND, label_N, test_MD, num_classes=3, neighbours=(2, 9))
    parts_loo = leave_one_out_votes(train_ND, label_N, num_classes=3, neighbours=(2, 9))
    for k in (2, 9):
        torch.testing.assert_close(parts.prob_MK[k], whole.prob_MK[k], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(parts_loo.prob_MK[k], whole_loo.prob_MK[k], rtol=1e-9, atol=1e-12)


def test_the_length_of_a_feature_does_not_matter(images) -> None:
    train_ND, label_N, test_MD = images
    plain = knn_votes(train_ND, label_N, test_MD, num_classes=3).prob_MK[10]
    scaled = knn_votes(
        train_ND * torch.rand(60, 1, dtype=torch.float64), label_N, 1e3 * test_MD, num_classes=3
    ).prob_MK[10]
    torch.testing.assert_close(scaled, plain, rtol=1e-9, atol=1e-12)


def test_k_beyond_the_training_set_is_clipped_and_said(images) -> None:
    train_ND, label_N, test_MD = images
    votes = knn_votes(train_ND, label_N, test_MD, num_classes=3)
    assert votes.used_k == {10: 10, 20: 20, 100: 60, 200: 60}
    assert torch.equal(votes.prob_MK[100], votes.prob_MK[200])
    assert leave_one_out_votes(train_ND, label_N, num_classes=3).used_k[200] == 59


def test_opposite_and_zero_features_still_vote() -> None:
    train_ND = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    votes = knn_votes(
        train_ND, torch.tensor([0, 1]), torch.tensor([[-1e-3, 0.0], [0.0, 0.0]]), num_classes=2, neighbours=[2]
    )
    torch.testing.assert_close(votes.prob_MK[2], torch.full((2, 2), 0.5))


def test_perfect_features_score_one_and_shuffled_labels_score_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    label_N = torch.arange(1000) % 10
    perfect_ND = torch.eye(10)[label_N] + 0.01 * torch.randn(1000, 10, generator=generator)
    _, table = choose_k(leave_one_out_votes(perfect_ND, label_N, num_classes=10, neighbours=(10, 50)), label_N)
    assert [row["top1"] for row in table] == [1.0, 1.0]
    shuffled_N = label_N[torch.randperm(1000, generator=generator)]
    _, table = choose_k(leave_one_out_votes(perfect_ND, shuffled_N, num_classes=10, neighbours=(50,)), shuffled_N)
    assert table[0]["top1"] == pytest.approx(0.1, abs=0.05)


def test_choose_k_takes_the_best_and_of_equals_the_smallest() -> None:
    right, wrong = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    tied = torch.tensor([[0.5, 0.5]])
    votes = KnnVotes(prob_MK={20: right, 10: wrong, 40: right, 5: tied}, used_k={20: 20, 10: 10, 40: 30, 5: 5})
    k, table = choose_k(votes, torch.tensor([0]))
    assert k == 20
    assert [(row["k"], row["used_k"], row["top1"]) for row in table] == [
        (5, 5, 0.0),
        (10, 10, 0.0),
        (20, 20, 1.0),
        (40, 30, 1.0),
    ]


def test_refusals(images) -> None:
    train_ND, label_N, test_MD = images
    with pytest.raises(ValueError, match=r"test must be \(M, 8\) of torch.float64, got torch.float64 \(17, 7\)"):
        knn_votes(train_ND, label_N, test_MD[:, :7], num_classes=3)
    with pytest.raises(ValueError, match=r"got torch.float32 \(17, 8\)"):
        knn_votes(train_ND, label_N, test_MD.float(), num_classes=3)
    with pytest.raises(ValueError, match="test must be finite, got inf"):
        knn_votes(train_ND, label_N, test_MD / 0.0 + torch.inf, num_classes=3)
    with pytest.raises(ValueError, match=r"numbers of at least 1, got \[0\]"):
        knn_votes(train_ND, label_N, test_MD, num_classes=3, neighbours=[0])
    with pytest.raises(ValueError, match=r"numbers of at least 1, got \[\]"):
        leave_one_out_votes(train_ND, label_N, num_classes=3, neighbours=[])
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        knn_votes(train_ND, label_N, test_MD, num_classes=3, temperature=0)
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        leave_one_out_votes(train_ND[:1], label_N[:1], num_classes=3)
    with pytest.raises(ValueError, match=r"label must be \(17,\), got \(3,\)"):
        choose_k(knn_votes(train_ND, label_N, test_MD, num_classes=3), label_N[:3])
