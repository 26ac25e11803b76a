"""Learning rates in closed form, and the plateau against torch's."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pretext.training.optim import Plateau, build_optimizer, rate_scale


def scales(schedule, *, total=20, warmup=0, plateau=None):
    return [rate_scale(schedule, step, total_steps=total, warmup_steps=warmup, plateau=plateau or Plateau())
            for step in range(total)]  # fmt: skip


class TestSchedules:
    def test_constant(self):
        assert scales("constant") == [1.0] * 20

    def test_cosine_begins_at_one_and_falls_to_nearly_nothing(self):
        found = scales("cosine")
        assert found == pytest.approx([math.cos(math.pi * step / 40) ** 2 for step in range(20)], rel=1e-12)
        assert found[0] == 1.0
        assert found[10] == pytest.approx(0.5)
        assert 0 < found[-1] < 0.01
        assert found == sorted(found, reverse=True)

    @pytest.mark.parametrize("schedule", ["cosine", "constant", "plateau"])
    def test_warm_up_rises_linearly_and_never_starts_at_nothing(self, schedule):
        found = scales(schedule, warmup=4)
        assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0], rel=1e-12)

    def test_cosine_after_warm_up_spans_what_is_left(self):
        found = scales("cosine", warmup=4)
        assert found[4:] == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 16)) for step in range(16)], rel=1e-12)

    @pytest.mark.parametrize("warmup", [20, 50])
    def test_warm_up_longer_than_the_training(self, warmup):
        assert scales("cosine", warmup=warmup) == pytest.approx([(step + 1) / (warmup + 1) for step in range(20)])

    def test_plateau_is_its_scale(self):
        plateau = Plateau(scale=0.25)
        assert scales("plateau", plateau=plateau) == [0.25] * 20
        assert scales("cosine", plateau=plateau)[0] == 1.0


class TestPlateau:
    @given(
        loss=st.lists(st.sampled_from([0.0, 1e-12, 0.5, 0.50004, 0.50006, 0.4999, 0.49995, 1.0, -1.0, -1.00005, -1.001])
                      | st.floats(-10, 10), max_size=60),
        factor=st.sampled_from([0.1, 0.5, 0.9]),
        patience=st.integers(0, 5),
    )  # fmt: skip
    @settings(max_examples=60, deadline=None)
    def test_it_agrees_with_torch(self, loss, factor, patience):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor, patience=patience, eps=0.0)
        ours = Plateau(factor=factor, patience=patience)
        for value in loss:
            theirs.step(value)
            ours.observe(value)
            assert ours.scale == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
            assert ours.bad_epochs == theirs.num_bad_epochs
            assert ours.best == theirs.best

    def test_patience_counts_epochs_that_are_not_better(self):
        plateau = Plateau(factor=0.5, patience=2)
        scales = []
        for value in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.6):
            plateau.observe(value)
            scales.append(plateau.scale)
        assert scales == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


class TestBuildOptimizer:
    @pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
    def test_the_kind_and_its_options(self, name, kind):
        optimizer = build_optimizer(name, [nn.Parameter(torch.zeros(2))], lr=0.1, weight_decay=0.01)
        assert type(optimizer) is kind
        (group,) = optimizer.param_groups
        assert (group["lr"], group["weight_decay"], group["fused"]) == (0.1, 0.01, True)

    @pytest.mark.parametrize("name", ["adam", "adamw"])
    def test_three_steps_are_those_of_the_paper(self, name):
        lr, decay, beta1, beta2, eps = 0.1, 0.05, 0.9, 0.999, 1e-8
        parameter = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
        optimizer = build_optimizer(name, [parameter], lr=lr, weight_decay=decay)
        want, first, second = [1.0, -2.0], [0.0, 0.0], [0.0, 0.0]
        for step, gradients in enumerate([(0.5, -1.0), (0.1, 2.0), (-3.0, 0.0)], start=1):
            parameter.grad = torch.tensor(gradients, dtype=torch.float64)
            optimizer.step()
            for i, gradient in enumerate(gradients):
                if name == "adam":
                    gradient += decay * want[i]
                else:
                    want[i] -= lr * decay * want[i]
                first[i] = beta1 * first[i] + (1 - beta1) * gradient
                second[i] = beta2 * second[i] + (1 - beta2) * gradient**2
                want[i] -= lr * first[i] / (1 - beta1**step) / (math.sqrt(second[i] / (1 - beta2**step)) + eps)
        assert parameter.tolist() == pytest.approx(want, rel=1e-9)

    def test_an_unknown_name_is_our_bug(self):
        with pytest.raises(KeyError, match="sgd"):
            build_optimizer("sgd", [nn.Parameter(torch.zeros(1))], lr=0.1, weight_decay=0)
