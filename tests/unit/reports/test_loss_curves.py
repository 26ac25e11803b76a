"""Only losses that measure the same thing share axes."""

from __future__ import annotations

import math

import pytest

from pretext.reports import loss_curves
from pretext.reports.gather import Run
from pretext.reports.loss_curves import comparable_losses, constant_loss, curve_of, loss_figure
from pretext.reports.style import looks


def _titles(study):
    return {title: [run.name for _, run in members] for title, members in comparable_losses(study).items()}


def test_seeds_share_a_panel_and_losses_do_not(study):
    titles = _titles(study)
    assert set(titles) == {"l1", "mse", "pse sigma 4"}
    assert titles["mse"] == ["shapes-cnn-mse-s0", "shapes-cnn-mse-s1"]


def test_methods_with_the_same_loss_share_a_panel(workshop):
    workshop.add("a", lr=0.1)
    workshop.add("b", lr=0.2)
    assert _titles(workshop.compare()) == {"mse": ["a", "b"]}


def test_other_options_of_one_loss_are_named(workshop):
    objective = {"name": "autoencode", "loss": "pse", "sigma": 4.0, "padding": "symmetric", "residual": "abs"}
    workshop.add("a", objective=objective | {"truncate": 4.0})
    workshop.add("b", objective=objective | {"truncate": 1.0})
    assert _titles(workshop.compare()) == {"pse sigma 4 truncate 4.0": ["a"], "pse sigma 4 truncate 1.0": ["b"]}


def test_colour_spaces_and_targets_have_panels_of_their_own(workshop):
    for name, space in (("a", "lab"), ("b", "rgb"), ("c", "lab-rescaled")):
        workshop.add_color(name, space=space)
    task = {"name": "split-brain", "loss": "cross-entropy", "color_space": "rgb", "bins": [100, 100], "rebalance": 1.0}
    workshop.add("d", objective=task | {"target_size": 16, "border": "reflect"})
    assert _titles(workshop.compare()) == {
        "split-brain lab cross-entropy": ["a"], "split-brain lab-rescaled cross-entropy": ["c"],
        "split-brain rgb cross-entropy target size 12": ["b"], "split-brain rgb cross-entropy target size 16": ["d"],
    }  # fmt: skip


def test_noise_does_not_change_what_is_measured(workshop):
    for level in (0.05, 0.5):
        task = {"name": "denoise", "loss": "bce", "noise": "masking", "noise_level": level}
        workshop.add(f"a{level}", objective=task)
    assert _titles(workshop.compare()) == {"denoise bce": ["a0.05", "a0.5"]}


def test_other_data_is_another_panel(workshop):
    other = workshop.fab.make_data(workshop.root / "data" / "other", num_test=60, seed=1)
    workshop.add("a")
    workshop.fab.make_run(workshop.runs / "b", other)
    assert sorted(_titles(workshop.compare()).values()) == [["a"], ["b"]]


def _run(rows):
    run = Run(name="r", layout=None)
    run.curve = rows
    return run


def test_curve_takes_epochs_and_leaves_out_gaps():
    rows = [{"kind": "epoch", "epoch": 1.0, "val/loss": 0.5}, {"kind": "step", "epoch": 0.5, "val/loss": 9.0},
            {"kind": "epoch", "epoch": 2.0, "val/loss": None}, {"kind": "epoch", "epoch": 3.0, "val/loss": math.nan},
            {"kind": "epoch", "epoch": 4.0, "val/loss": 0.25}]  # fmt: skip
    assert curve_of(_run(rows), "val/loss") == [(1.0, 0.5), (4.0, 0.25)]


def test_curve_of_a_single_epoch_takes_the_steps():
    rows = [{"kind": "step", "epoch": 0.5, "train/loss": 2.0}, {"kind": "epoch", "epoch": 1.0, "train/loss": 1.0}]
    assert curve_of(_run(rows), "train/loss") == [(0.5, 2.0)]
    assert curve_of(_run(rows[1:]), "train/loss") == [(1.0, 1.0)]


@pytest.mark.parametrize(("ratio", "scale"), [(5, "linear"), (50, "log")])
def test_steep_curves_are_logarithmic(workshop, monkeypatch, ratio, scale):
    workshop.add("a")
    runs = workshop.gather()
    runs[0].curve = [{"kind": "epoch", "epoch": 1.0, "train/loss": float(ratio)},
                     {"kind": "epoch", "epoch": 2.0, "train/loss": 1.0}]  # fmt: skip
    drawn = []
    monkeypatch.setattr(loss_curves, "finish", lambda figure, *words: drawn.append(figure))
    from pretext.reports.compare import compare

    study = compare(runs)
    loss_figure(study, looks(study.methods))
    assert drawn[0].axes[0].get_yscale() == scale
    assert drawn[0].axes[0].get_xlabel() == "epochs"


def test_the_best_constant_answer_is_a_line(workshop, monkeypatch):
    workshop.add_color("a")
    workshop.add("b")
    drawn = []
    monkeypatch.setattr(loss_curves, "finish", lambda figure, *words: drawn.append(figure))
    study = workshop.compare()
    loss_figure(study, looks(study.methods))
    constants = [[line.get_ydata()[0] for line in axis.lines if line.get_linestyle() == "--"]
                 for axis in drawn[0].axes if axis.axison]  # fmt: skip
    assert sorted(constants) == [[], [pytest.approx(constant_loss(study.runs[0]))]]
    assert "the best constant answer" in [text.get_text() for text in drawn[0].legends[0].get_texts()]


@pytest.mark.parametrize("value", ["much", None, math.nan, [1.0]])
def test_constant_that_is_no_number_is_none(workshop, value):
    workshop.add_color("a")
    (run,) = workshop.gather()
    run.manifest["summary"]["constant_loss"] = value
    assert constant_loss(run) is None


def test_nothing_trained_no_figure(workshop):
    workshop.add("r", loss=None)
    study = workshop.compare()
    assert loss_figure(study, looks(study.methods)) is None
