"""The batched logistic solver: agreement with scikit-learn, independence of the problems, edge cases, refusals."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from pretext.tasks import logistic_solver, principal_axes
from pretext.tasks.logistic_solver import ABSENT_BIAS, solve_logistic


def classes(
    num_images: int, num_features: int, num_classes: int, *, seed: int = 0, apart: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Overlapping classes whose features differ in scale and are correlated."""
    generator = torch.Generator().manual_seed(seed)
    label_N = torch.arange(num_images) % num_classes
    centre_KD = apart * torch.randn(num_classes, num_features, generator=generator, dtype=torch.float64)
    mix_DD = torch.randn(num_features, num_features, generator=generator, dtype=torch.float64)
    noise_ND = torch.randn(num_images, num_features, generator=generator, dtype=torch.float64)
    return ((centre_KD[label_N] + noise_ND) @ mix_DD) * torch.logspace(-2, 2, num_features) + 3.0, label_N


def awkward() -> tuple[Tensor, Tensor]:
    feature_ND, label_N = classes(120, 10, 5)
    feature_ND[:, 3] = 0.1  # constant, and not a float32
    feature_ND[:, 4] = 2 * feature_ND[:, 5] + 1  # collinear
    feature_ND[:, 6] = 0.0
    return feature_ND, label_N


CASES = {
    "more images than features": classes(150, 12, 10),
    "more features than images": classes(50, 120, 10),
    "two classes": classes(100, 8, 2),
    "constant and collinear features": awkward(),
    "separable": classes(90, 20, 3, apart=20.0),
}


def reference(feature_ND: Tensor, label_N: Tensor, strength: float, *, standardize: bool = True):
    """The fitted scikit-learn pipeline, and its objective."""
    steps = [StandardScaler()] if standardize else []
    model = make_pipeline(*steps, LogisticRegression(C=strength, tol=1e-10, max_iter=50_000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of what it can't reach in float64
        model.fit(feature_ND.numpy(), label_N.numpy())
    log_NK = model.predict_log_proba(feature_ND.numpy())
    loss = -log_NK[np.arange(len(label_N)), label_N.numpy()].sum()
    return model, 0.5 * (model[-1].coef_ ** 2).sum() + strength * loss


def probabilities(feature_ND: Tensor, weight_DK: Tensor, bias_K: Tensor) -> np.ndarray:
    return torch.softmax(feature_ND.double() @ weight_DK.double() + bias_K.double(), dim=1).numpy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_scikit_learn(case: str, dtype: torch.dtype) -> None:
    feature_ND, label_N = CASES[case]
    feature_ND = feature_ND.to(dtype)
    strength_P = torch.tensor([1e-3, 1.0, 300.0], dtype=torch.float64)
    train_N = torch.arange(len(label_N)) < 0.8 * len(label_N)
    solution = solve_logistic(
        feature_ND,
        label_N,
        num_classes=int(label_N.max()) + 1,
        train_mask_PN=train_N.expand(3, -1),
        strength_P=strength_P,
    )
    assert solution.converged_P.all()
    assert solution.weight_PDK.dtype == dtype
    for p, strength in enumerate(strength_P.tolist()):
        model, objective = reference(feature_ND[train_N].double(), label_N[train_N], strength)
        assert solution.objective_P[p].item() == pytest.approx(objective, rel=1e-5)
        ours = probabilities(feature_ND, solution.weight_PDK[p], solution.bias_PK[p])
        np.testing.assert_allclose(ours, model.predict_proba(feature_ND.double().numpy()), rtol=0, atol=1e-3)


def test_many_weights_agree_when_the_problem_is_well_conditioned() -> None:
    feature_ND, label_N = classes(200, 5, 4)
    solution = solve_logistic(
        feature_ND, label_N, num_classes=4, train_mask_PN=torch.ones(1, 200, dtype=torch.bool),
        strength_P=torch.tensor([0.1]), tolerance=1e-13,
    )  # fmt: skip
    model, _ = reference(feature_ND, label_N, 0.1)
    weight_KD = model[-1].coef_ / model[0].scale_
    np.testing.assert_allclose(solution.weight_PDK[0].T.numpy(), weight_KD, rtol=1e-4, atol=1e-6)
    bias_K = model[-1].intercept_ - weight_KD @ model[0].mean_
    np.testing.assert_allclose(solution.bias_PK[0].numpy(), bias_K, rtol=1e-4, atol=1e-6)


def test_the_gradient_of_the_stated_objective_vanishes() -> None:
    feature_ND, label_N = classes(80, 6, 3)
    strength = 2.0
    solution = solve_logistic(
        feature_ND, label_N, num_classes=3, train_mask_PN=torch.ones(1, 80, dtype=torch.bool),
        strength_P=torch.tensor([strength]), tolerance=1e-14,
    )  # fmt: skip
    scale_D = feature_ND.std(dim=0, unbiased=False)
    standard_ND = (feature_ND - feature_ND.mean(dim=0)) / scale_D
    weight_DK = (solution.weight_PDK[0] * scale_D[:, None]).requires_grad_()
    bias_K = (solution.bias_PK[0] + feature_ND.mean(dim=0) @ solution.weight_PDK[0]).requires_grad_()
    loss = torch.nn.functional.cross_entropy(standard_ND @ weight_DK + bias_K, label_N, reduction="sum")
    objective = weight_DK.square().sum() / 2 + strength * loss
    gradients = torch.autograd.grad(objective, [weight_DK, bias_K])
    assert objective.item() == pytest.approx(solution.objective_P.item(), rel=1e-9)
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm() / (strength * 80)
    assert norm < 1e-6
    assert solution.gradient_norm_P.item() == pytest.approx(norm.item(), rel=1e-3, abs=1e-12)


def test_raw_features_agree_too() -> None:
    feature_ND, label_N = classes(100, 4, 3)
    feature_ND = feature_ND / 50
    solution = solve_logistic(
        feature_ND, label_N, num_classes=3, train_mask_PN=torch.ones(1, 100, dtype=torch.bool),
        strength_P=torch.tensor([1.0]), standardize=False,
    )  # fmt: skip
    model, objective = reference(feature_ND, label_N, 1.0, standardize=False)
    assert solution.objective_P.item() == pytest.approx(objective, rel=1e-6)
    ours = probabilities(feature_ND, solution.weight_PDK[0], solution.bias_PK[0])
    np.testing.assert_allclose(ours, model.predict_proba(feature_ND.numpy()), rtol=0, atol=1e-4)


def test_units_of_the_features_do_not_matter() -> None:
    feature_ND, label_N = classes(90, 7, 3)
    mask, strength = torch.ones(1, 90, dtype=torch.bool), torch.tensor([1.0])
    scale_D, shift_D = torch.logspace(-3, 3, 7, dtype=torch.float64), torch.linspace(-9, 9, 7, dtype=torch.float64)
    plain = solve_logistic(feature_ND, label_N, num_classes=3, train_mask_PN=mask, strength_P=strength)
    moved_ND = feature_ND * scale_D + shift_D
    moved = solve_logistic(moved_ND, label_N, num_classes=3, train_mask_PN=mask, strength_P=strength)
    np.testing.assert_allclose(
        probabilities(moved_ND, moved.weight_PDK[0], moved.bias_PK[0]),
        probabilities(feature_ND, plain.weight_PDK[0], plain.bias_PK[0]), rtol=0, atol=1e-4,
    )  # fmt: skip


def mixed_problems() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    feature_ND, label_N = classes(120, 30, 3)
    generator = torch.Generator().manual_seed(1)
    mask_PN = torch.stack([torch.randperm(120, generator=generator) < size for size in (100, 20, 100, 60, 12)])
    mask_PN = torch.cat([mask_PN, mask_PN[:3]])
    return feature_ND, label_N, mask_PN, torch.logspace(-3, 2, 8, dtype=torch.float64)


@pytest.fixture
def together() -> tuple[Tensor, Tensor, Tensor, Tensor, logistic_solver.LogisticSolution]:
    problems = mixed_problems()
    solution = solve_logistic(*problems[:2], num_classes=3, train_mask_PN=problems[2], strength_P=problems[3])
    return *problems, solution


@pytest.fixture
def few_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of more than 8 images count as large."""
    monkeypatch.setattr(principal_axes, "NUM_AXES", 4)
    monkeypatch.setattr(principal_axes, "GRAM_ROWS", 7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_sets_agree_with_scikit_learn_too(few_axes, dtype: torch.dtype) -> None:
    for case in ("more images than features", "more features than images", "constant and collinear features"):
        feature_ND, label_N = (value[:40] for value in CASES[case])
        wide_ND = torch.cat([feature_ND, feature_ND.square(), feature_ND.sin(), feature_ND[:, :3]], dim=1).to(dtype)
        assert principal_axes.is_large(*wide_ND.shape)
        strength_P = torch.tensor([1e-3, 1.0, 300.0], dtype=torch.float64)
        mask_PN = torch.ones(3, 40, dtype=torch.bool)
        solution = solve_logistic(
            wide_ND, label_N, num_classes=int(label_N.max()) + 1, train_mask_PN=mask_PN, strength_P=strength_P
        )
        assert solution.converged_P.all()
        for p, strength in enumerate(strength_P.tolist()):
            model, objective = reference(wide_ND.double(), label_N, strength)
            assert solution.objective_P[p].item() == pytest.approx(objective, rel=1e-5)
            ours = probabilities(wide_ND, solution.weight_PDK[p], solution.bias_PK[p])
            np.testing.assert_allclose(ours, model.predict_proba(wide_ND.double().numpy()), rtol=0, atol=1e-3)


def test_leading_axes_and_remainders_are_the_whole(few_axes) -> None:
    feature_ND, _ = CASES["more features than images"]
    index_n = torch.arange(5, 45)
    own = principal_axes.span(feature_ND, index_n, standardize=True)
    standard_nD = StandardScaler().fit_transform(feature_ND[index_n].numpy())
    assert own.rest_nn is not None
    assert own.feature_nR.shape == (40, 4)
    whole_nn = own.feature_nR @ own.feature_nR.T + own.rest_nn
    np.testing.assert_allclose(whole_nn.numpy(), standard_nD @ standard_nD.T, rtol=0, atol=1e-9)
    generator = torch.Generator().manual_seed(2)
    weight_RJ, rest_nJ = (torch.randn(rows, 3, generator=generator, dtype=torch.float64) for rows in (4, 40))
    weight_DJ, shift_J = own.unfold(weight_RJ, rest_nJ, feature_ND)
    logit_nJ = feature_ND[index_n] @ weight_DJ + shift_J
    torch.testing.assert_close(logit_nJ, own.feature_nR @ weight_RJ + own.rest_nn @ rest_nJ, rtol=0, atol=1e-8)
    # what is penalised is the same in both coordinates
    square_J = (weight_DJ * own.scale_D[:, None]).square().sum(dim=0)
    rest_J = torch.linalg.vecdot(rest_nJ, own.rest_nn @ rest_nJ, dim=0)
    torch.testing.assert_close(square_J, weight_RJ.square().sum(dim=0) + rest_J, rtol=1e-9, atol=0)


def test_large_and_small_sets_solved_together_end_as_if_alone(few_axes) -> None:
    feature_ND, label_N, mask_PN, strength_P = mixed_problems()
    mask_PN[3] = torch.arange(120) < 6
    together = solve_logistic(feature_ND, label_N, num_classes=3, train_mask_PN=mask_PN, strength_P=strength_P)
    assert together.converged_P.all()
    for p in range(len(strength_P)):
        own = {"train_mask_PN": mask_PN[p : p + 1], "strength_P": strength_P[p : p + 1]}
        alone = solve_logistic(feature_ND, label_N, num_classes=3, **own)
        assert together.objective_P[p].item() == pytest.approx(alone.objective_P.item(), rel=1e-8)
        torch.testing.assert_close(together.bias_PK[p], alone.bias_PK[0], rtol=0, atol=1e-2)


def test_problems_of_any_size_solved_together_end_as_if_alone(together) -> None:
    feature_ND, label_N, mask_PN, strength_P, solution = together
    for p in range(len(strength_P)):
        own = {"train_mask_PN": mask_PN[p : p + 1], "strength_P": strength_P[p : p + 1]}
        alone = solve_logistic(feature_ND, label_N, num_classes=3, **own)
        assert solution.objective_P[p].item() == pytest.approx(alone.objective_P.item(), rel=1e-9)
        np.testing.assert_allclose(
            probabilities(feature_ND, solution.weight_PDK[p], solution.bias_PK[p]),
            probabilities(feature_ND, alone.weight_PDK[0], alone.bias_PK[0]), rtol=0, atol=1e-3,
        )  # fmt: skip


def test_splitting_into_batches_and_chunks_changes_nothing(together, monkeypatch: pytest.MonkeyPatch) -> None:
    feature_ND, label_N, mask_PN, strength_P, solution = together
    monkeypatch.setattr(logistic_solver, "BATCH_ELEMENTS", 1)
    monkeypatch.setattr(principal_axes, "CHUNK_ELEMENTS", 70)
    small = solve_logistic(feature_ND, label_N, num_classes=3, train_mask_PN=mask_PN, strength_P=strength_P)
    torch.testing.assert_close(small.objective_P, solution.objective_P, rtol=1e-8, atol=0)
    torch.testing.assert_close(small.weight_PDK, solution.weight_PDK, rtol=1e-3, atol=1e-4)


def test_images_outside_the_training_set_do_not_matter(together) -> None:
    feature_ND, label_N, mask_PN, strength_P, solution = together
    changed_ND, changed_N = feature_ND.clone(), label_N.clone()
    changed_ND[~mask_PN[3]] = 1e6
    changed_N[~mask_PN[3]] = 0
    own = {"train_mask_PN": mask_PN[3:4], "strength_P": strength_P[3:4]}
    alone = solve_logistic(changed_ND, changed_N, num_classes=3, **own)
    torch.testing.assert_close(alone.weight_PDK[0], solution.weight_PDK[3], rtol=1e-3, atol=1e-5)


def test_absent_classes_get_no_probability_and_leave_the_others_as_they_are() -> None:
    feature_ND, label_N = classes(90, 6, 3)
    spread_N = torch.tensor([0, 2, 5])[label_N]
    own = {"train_mask_PN": torch.ones(1, 90, dtype=torch.bool), "strength_P": torch.tensor([1.0])}
    dense = solve_logistic(feature_ND, label_N, num_classes=3, **own)
    sparse = solve_logistic(feature_ND, spread_N, num_classes=7, **own)
    absent = [1, 3, 4, 6]
    assert (sparse.weight_PDK[0][:, absent] == 0).all()
    assert (sparse.bias_PK[0, absent] == ABSENT_BIAS).all()
    prob_NK = probabilities(feature_ND, sparse.weight_PDK[0], sparse.bias_PK[0])
    assert prob_NK[:, absent].max() == 0.0
    expected = probabilities(feature_ND, dense.weight_PDK[0], dense.bias_PK[0])
    np.testing.assert_allclose(prob_NK[:, [0, 2, 5]], expected, rtol=0, atol=1e-4)


def test_two_classes_present_of_many_is_scikit_learns_binary_fit() -> None:
    feature_ND, label_N = classes(60, 5, 2)
    own = {"train_mask_PN": torch.ones(1, 60, dtype=torch.bool), "strength_P": torch.tensor([0.1])}
    solution = solve_logistic(feature_ND, 4 * label_N, num_classes=6, **own)
    model, _ = reference(feature_ND, label_N, 0.1)
    prob_NK = probabilities(feature_ND, solution.weight_PDK[0], solution.bias_PK[0])
    np.testing.assert_allclose(prob_NK[:, [0, 4]], model.predict_proba(feature_ND.numpy()), rtol=0, atol=1e-4)


def test_features_without_any_information_give_the_class_shares() -> None:
    label_N = torch.tensor([0, 0, 0, 1])
    solution = solve_logistic(
        torch.full((4, 3), 0.1), label_N, num_classes=2, train_mask_PN=torch.ones(1, 4, dtype=torch.bool),
        strength_P=torch.tensor([1.0]),
    )  # fmt: skip
    prob_NK = probabilities(torch.full((1, 3), 0.1), solution.weight_PDK[0], solution.bias_PK[0])
    np.testing.assert_allclose(prob_NK, [[0.75, 0.25]], atol=1e-4)
    assert (solution.weight_PDK == 0).all()


def test_too_few_passes_are_told() -> None:
    feature_ND, label_N = CASES["more images than features"]
    solution = solve_logistic(
        feature_ND, label_N, num_classes=10, train_mask_PN=torch.ones(2, 150, dtype=torch.bool),
        strength_P=torch.tensor([1e-9, 1e3]), max_iter=4,
    )  # fmt: skip
    assert solution.converged_P.tolist() == [True, False]
    assert solution.iterations == 4


def test_same_input_same_bits() -> None:
    feature_ND, label_N, mask_PN, strength_P = mixed_problems()
    first, second = (
        solve_logistic(feature_ND.float(), label_N, num_classes=3, train_mask_PN=mask_PN, strength_P=strength_P)
        for _ in range(2)
    )
    assert torch.equal(first.weight_PDK, second.weight_PDK)
    assert torch.equal(first.bias_PK, second.bias_PK)


def test_refusals() -> None:
    feature_ND, label_N = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2
    mask_PN, strength_P = torch.ones(1, 6, dtype=torch.bool), torch.ones(1)

    def solve(**changes) -> None:
        arguments = {"num_classes": 2, "train_mask_PN": mask_PN, "strength_P": strength_P} | changes
        solve_logistic(arguments.pop("feature_ND", feature_ND), arguments.pop("label_N", label_N), **arguments)

    with pytest.raises(ValueError, match=r"train_mask must be \(P, 6\) and strength \(P,\).*got \(2, 6\) and \(1,\)"):
        solve(train_mask_PN=mask_PN.expand(2, -1))
    with pytest.raises(ValueError, match=r"train_mask must be bool, got torch\.float32"):
        solve(train_mask_PN=mask_PN.float())
    with pytest.raises(ValueError, match=r"strength must be positive and finite, got -1\.0"):
        solve(strength_P=-strength_P)
    with pytest.raises(ValueError, match="strength must be positive and finite, got inf"):
        solve(strength_P=strength_P * torch.inf)
    with pytest.raises(ValueError, match="problem 1 must train on at least 2 classes, got 1"):
        solve(train_mask_PN=torch.stack([mask_PN[0], label_N == 0]), strength_P=torch.ones(2))
    with pytest.raises(ValueError, match=r"label must be in 0..1, got 2"):
        solve(label_N=label_N * 2)
