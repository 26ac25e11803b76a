"""McNemar's exact test and Holm's correction: closed forms, loops, invariants, and every refusal."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretext.statistics.paired import PairedTest, holm, mcnemar


def runs_with(only_a: int, only_b: int, both: int = 10, neither: int = 5) -> tuple[np.ndarray, np.ndarray]:
    a = [1] * only_a + [0] * only_b + [1] * both + [0] * neither
    b = [0] * only_a + [1] * only_b + [1] * both + [0] * neither
    return np.array(a), np.array(b)


def slow_p_value(only_a: int, only_b: int) -> float:
    """Twice the smaller tail of a fair coin, in exact integers."""
    total, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(total, k) for k in range(fewer + 1))
    return min(1.0, 2 * tail / 2**total)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (3, 3), (1, 9), (25, 10), (0, 12), (130, 170)])
def test_p_value_is_the_exact_binomial_tail(only_a: int, only_b: int) -> None:
    test = mcnemar(*runs_with(only_a, only_b))
    assert (test.only_a, test.only_b) == (only_a, only_b)
    assert test.p_value == pytest.approx(slow_p_value(only_a, only_b), rel=1e-12)


def test_known_value() -> None:
    # 1 against 9: 2 (1 + 10) / 1024
    assert mcnemar(*runs_with(1, 9)).p_value == pytest.approx(22 / 1024)


def test_difference_is_that_of_the_accuracies() -> None:
    a, b = runs_with(7, 2, both=20, neither=21)
    assert mcnemar(a, b).difference == pytest.approx(a.mean() - b.mean())


def test_swapping_the_runs_swaps_the_counts_only() -> None:
    a, b = runs_with(12, 5)
    forth, back = mcnemar(a, b), mcnemar(b, a)
    assert (forth.only_a, forth.only_b) == (back.only_b, back.only_a)
    assert forth.p_value == pytest.approx(back.p_value)
    assert forth.difference == -back.difference


def test_runs_that_never_disagree_are_not_different() -> None:
    correct = np.array([True, False, True])
    assert mcnemar(correct, correct) == PairedTest(only_a=0, only_b=0, p_value=1.0, difference=0.0)


def test_large_counts_approach_the_normal_tail() -> None:
    test = mcnemar(*runs_with(20_300, 19_700))
    z = (600 - 1) / math.sqrt(40_000)  # with continuity correction
    assert test.p_value == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)


def test_false_alarms_stay_below_the_level() -> None:
    rng = np.random.default_rng(0)
    alarms = sum(mcnemar(rng.random(200) < 0.7, rng.random(200) < 0.7).p_value < 0.05 for _ in range(400))
    assert alarms / 400 <= 0.07


def test_mcnemar_refuses_what_it_can_not_pair() -> None:
    with pytest.raises(ValueError, match="same images, got 2 and 3"):
        mcnemar([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="correct_b must hold booleans or 0/1, got 2"):
        mcnemar([0, 1], [0, 2])
    with pytest.raises(ValueError, match="got nan"):
        mcnemar([0.0, np.nan], [0, 1])
    with pytest.raises(ValueError, match=r"correct_a must be a non-empty vector, got shape \(0,\)"):
        mcnemar([], [])


def slow_rejections(p_values: list[float], alpha: float) -> set[int]:
    """Holm's procedure as published: step up from the smallest p-value until one is not below its share of alpha."""
    rejected: set[int] = set()
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for step, i in enumerate(order):
        if p_values[i] > alpha / (len(p_values) - step):
            break
        rejected.add(i)
    return rejected


def test_holm_known_values() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.integers(1, 999), min_size=1, max_size=8, unique=True), st.integers(1, 99))
def test_holm_rejects_what_the_procedure_rejects(thousandths: list[int], hundredth: int) -> None:
    p_values, alpha = [t / 1000 for t in thousandths], hundredth / 100 + 1e-7
    assert set(np.flatnonzero(holm(p_values) <= alpha).tolist()) == slow_rejections(p_values, alpha)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_order_and_bounds(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert (adjusted >= np.array(p_values)).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0).all()


def test_holm_of_one_is_itself_and_of_none_is_empty() -> None:
    assert holm([0.2]).tolist() == [0.2]
    assert holm([]).tolist() == []


def test_holm_refuses_what_is_not_a_probability() -> None:
    with pytest.raises(ValueError, match=r"in 0..1, got 1.5"):
        holm([0.5, 1.5])
    with pytest.raises(ValueError, match="got nan"):
        holm([np.nan])
    with pytest.raises(ValueError, match=r"must be a vector, got shape \(1, 2\)"):
        holm(np.zeros((1, 2)))
