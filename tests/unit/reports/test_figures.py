"""Figures draw what the study says."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from pretext.reports import figures
from pretext.reports.figures import (
    class_names,
    confusion,
    confusion_figure,
    few_labels_figure,
    mistakes_figure,
    results_figure,
    shorten_name,
    sigma_figure,
    sigma_series,
)
from pretext.reports.mistakes import Mistake
from pretext.reports.style import looks


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they are when they are finished, without rendering them."""
    found = []
    monkeypatch.setattr(figures, "finish", lambda figure, *words, **more: found.append(figure))
    return found


def test_results_have_a_row_per_method_and_a_panel_per_evaluation(study, drawn):
    results_figure(study, looks(study.methods))
    axes = [axis for axis in drawn[0].axes if axis.axison]
    assert [axis.get_title(loc="left").replace("\n", " ") for axis in axes] == [e.label for e in study.evaluations]
    rows = [label.get_text() for label in axes[0].get_yticklabels()]
    assert sorted(rows) == sorted(method.label for method in study.methods)
    for axis, evaluation in zip(axes, study.evaluations, strict=True):
        points = {(round(float(line.get_xdata()[0]), 9), rows[int(line.get_ydata()[0])]) for line in axis.lines
                  if len(line.get_xdata()) == 1}  # fmt: skip
        assert points >= {(round(100 * entry.top1, 9), entry.method.label) for entry in evaluation.entries}
        assert axis.get_xlabel() == "top-1, %"


def test_sigma_curve_joins_mse_at_zero(study):
    for evaluation in study.evaluations:
        (series,) = sigma_series(evaluation).values()
        assert list(series) == [0.0, 4.0]
        assert [entry.method.label for entry in series.values()] == ["cnn-mse", "cnn-pse4"]


def test_sigma_curve_needs_all_else_equal(workshop):
    workshop.add("a", ("probe-linear", 1.0), loss="pse", sigma=3.0)
    workshop.add("b", ("probe-linear", 1.0), loss="pse", sigma=4.0, lr=0.5)
    workshop.add("c", ("probe-linear", 1.0), loss="pse", sigma=5.0)
    workshop.add("d", ("probe-linear", 1.0), loss="mse", lr=0.7)
    study = workshop.compare()
    (series,) = sigma_series(study.evaluations[0]).values()
    assert list(series) == [3.0, 5.0]


def test_no_sigma_no_figure(workshop):
    workshop.add("a", ("probe-linear", 1.0))
    study = workshop.compare()
    assert sigma_figure(study) is None
    assert few_labels_figure(study, looks(study.methods)) is None


def test_sigma_figure_has_units_and_intervals(study, drawn):
    sigma_figure(study)
    axis = drawn[0].axes[0]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("sigma, px", "top-1, %")
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0\n(mse)", "4"]
    assert len(axis.containers) == 1
    assert axis.containers[0].has_yerr


def test_few_labels_are_on_a_logarithmic_axis(study, drawn):
    few_labels_figure(study, looks(study.methods))
    (axis,) = drawn[0].axes
    assert axis.get_xscale() == "log"
    assert axis.get_xlabel() == "labels per class"
    assert sorted(axis.get_xticks()) == [1, 2, 4, 8, 16, 32, 64]
    assert len(axis.containers) == 4


def test_sets_drawn_regardless_of_class_are_hollow(workshop, drawn):
    for seed, unstratified in ((0, False), (1, True)):
        layout = workshop.add(f"a{seed}", seed=seed)
        workshop.fab.make_result(layout, "probe-linear", workshop.data, quality=1.0, seed=seed, curve=(1, 8),
                                 unstratified=unstratified)  # fmt: skip
    study = workshop.compare()
    few_labels_figure(study, looks(study.methods))
    faces = [container.lines[0].get_markerfacecolor() for container in drawn[0].axes[0].containers]
    assert faces == [looks(study.methods)[study.methods[0].identity.key].color, "white"]
    assert len(drawn[0].legends[0].get_texts()) == 1


def test_long_names_get_taller_rows(workshop, drawn):
    workshop.add("a", ("probe-linear", 1.0))
    for name, encoder in (("b", "cnn"), ("c", "cnn-of-a-name-that-needs-a-second-line")):
        workshop.add(name, ("probe-linear", 1.0), loss="l1", encoder=encoder)
        study = workshop.compare()
        results_figure(study, looks(study.methods))
    assert drawn[1].get_figheight() > drawn[0].get_figheight() + 0.2


def test_only_primary_evaluations_have_panels(workshop, drawn):
    workshop.add_color("a", ("conv1", 0.5), ("latent", 1.0))
    study = workshop.compare()
    results_figure(study, looks(study.methods))
    assert [axis.get_title(loc="left") for axis in drawn[0].axes if axis.axison] == ["Linear probe"]


def test_chance_is_left_out_where_it_would_squeeze_the_scores(workshop, drawn):
    workshop.add("a", ("probe-linear", 8.0), ("probe-knn", 0.0))
    workshop.add("b", ("probe-linear", 8.0), ("probe-knn", 0.0), loss="l1")
    study = workshop.compare()
    results_figure(study, looks(study.methods))
    dotted = [[line for line in axis.lines if line.get_linestyle() == ":"] for axis in drawn[0].axes if axis.axison]
    assert [len(lines) for lines in dotted] == [0, 1]


def test_confusion_counts_shares_of_true_classes(study):
    evaluation = study.evaluations[0]
    results = list(evaluation.entries[0].results.values())
    share_KK = confusion(results)
    for row in range(10):
        for column in range(10):
            pairs = [(label, said) for result in results
                     for label, said in zip(result.label_N, result.predicted_N, strict=True)]  # fmt: skip
            own = [said for label, said in pairs if label == row]
            assert share_KK[row, column] == pytest.approx(sum(said == column for said in own) / len(own), abs=1e-9)


def test_confusion_figure_names_the_worst(study):
    picture = confusion_figure(study.evaluations[0], 1)
    assert picture.name == "confusion-1"
    assert "Most often confused: " in picture.caption
    ET.fromstring(picture.svg)


def test_perfect_and_control_only_confusions(workshop):
    workshop.add("a", ("probe-linear", 99.0))
    workshop.add("r", ("probe-knn", 1.0), loss=None)
    knn, linear = sorted(workshop.compare().evaluations, key=lambda evaluation: evaluation.kind)
    assert confusion_figure(linear, 1).caption.endswith("Nothing was confused.")
    assert confusion_figure(knn, 1) is None


def test_many_classes_are_drawn_without_numbers(study, drawn, monkeypatch):
    monkeypatch.setattr(figures, "ANNOTATED_CLASSES", 5)
    confusion_figure(study.evaluations[0], 1)
    assert len(drawn[0].axes[0].texts) == 0


def test_class_names_fall_back_to_numbers(study):
    result = study.evaluations[0].results[0]
    assert class_names(result, 12)[8:] == ["ship", "truck", "10", "11"]


def test_mistakes_are_drawn_with_class_answer_and_probability(drawn):
    image_HWC = np.zeros((8, 8, 3), np.uint8)
    mistake = Mistake(image_HWC, "cat", "a very long class name", 0.873)
    mistakes_figure("m", "", [mistake] * 3, [])
    (axis,) = drawn[0].axes
    assert len(axis.images) == 3
    assert "cat\nsaid a very long c.\n87%" in [text.get_text() for text in axis.texts]
    assert shorten_name("short") == "short"
