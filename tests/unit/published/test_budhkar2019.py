"""The student project's two tables, with what its draft got wrong put right and said."""

from __future__ import annotations

import pytest

from pretext.published.budhkar2019 import FIGURES

BY_KEY = {figure.key.removeprefix("student/"): figure for figure in FIGURES}


def test_every_cell_is_there():
    assert len(BY_KEY) == len(FIGURES) == 10 * 2 + 7 * 2
    assert all(figure.unknown == "the data are not public" for figure in FIGURES)


@pytest.mark.parametrize(("key", "value"), [
    ("table-1/alexnet-fcn-lab/fold_mean_top1", 0.0301), ("table-1/resnet18-fcn-lab-rescaled/fold_mean_top1", 0.1404),
    ("table-1/resnet18-fcn-lab-rescaled/fold_mean_top5", 0.3015), ("table-1/simplenet5-rgb/fold_mean_top5", 0.2476),
    ("table-1/dae/fold_mean_top5", 0.1815), ("table-2/fold_mean_top1/1", 0.0065), ("table-2/fold_mean_top5/8", 0.0998),
    ("table-2/fold_mean_top1/64", 0.1450),
])  # fmt: skip
def test_values_are_those_of_the_final_report(key, value):
    assert BY_KEY[key].value == value


def test_no_top1_is_above_its_top5():
    pairs = [(figure, BY_KEY[key.replace("top1", "top5")]) for key, figure in BY_KEY.items() if "top1" in key]
    assert len(pairs) == 17
    assert all(top1.value < top5.value for top1, top5 in pairs)


def test_slips_of_the_draft_are_told():
    dae = BY_KEY["table-1/dae/fold_mean_top1"]
    assert dae.value == 0.0653
    assert ".6530" in dae.note
    assert '"SimpleNet 18"' in BY_KEY["table-1/simplenet5-lab/fold_mean_top1"].note
    few = BY_KEY["table-2/fold_mean_top1/64"]
    assert few.requires["few-label draws"] == "unstratified"
    assert "14.50 %" in few.note
    assert "14.04 %" in few.note
    assert all("one run a cell" in figure.note for figure in FIGURES)


def test_curve_climbs_with_its_labels():
    curve = [(figure.labels_per_class, figure.value, figure.n_labels) for key, figure in BY_KEY.items()
             if key.startswith("table-2/fold_mean_top1/")]  # fmt: skip
    assert [labels for labels, *_ in curve] == [1, 2, 4, 8, 16, 32, 64]
    assert [value for _, value, _ in curve] == sorted(value for _, value, _ in curve)
    assert all(total == 1000 * labels for labels, _, total in curve)
