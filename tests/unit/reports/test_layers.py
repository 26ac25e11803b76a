"""Scores along the layers."""

from __future__ import annotations

import pytest

from pretext.reports import layers
from pretext.reports.layers import grid_table, layer_panels, layers_figure, layers_table
from pretext.reports.style import looks


def _records(table):
    return [dict(zip([column.key for column in table.columns], row, strict=True)) for row in table.rows]


@pytest.fixture(scope="module")
def deep(shared_workshop):
    """Two seeds of one method and of its control at three layers, one of another encoder at two, and pixels."""
    for seed in (0, 1):
        shared_workshop.add_color(f"a{seed}", ("conv1", 0.3), ("conv2", 2.0), ("latent", 1.0), seed=seed)
        shared_workshop.add_color(f"r{seed}", ("conv1", 0.3), ("conv2", 0.1), ("latent", 0.0), seed=seed, space=None)
    shared_workshop.add_color("b", ("layer1", 1.0), ("latent", 2.0), encoder="resnet18-fcn", space="rgb")
    shared_workshop.add_color("c", ("latent", 1.0), encoder="alexnet-fcn")
    shared_workshop.add_pixels(0.5)
    return shared_workshop.compare()


@pytest.fixture
def drawn(monkeypatch):
    found = []
    monkeypatch.setattr(layers, "finish", lambda figure, *words: found.append(figure))
    return found


def _entry(study, label, layer):
    return next(entry for evaluation in study.evaluations if evaluation.layer == layer
                for entry in evaluation.entries if entry.method.label == label)  # fmt: skip


def test_each_encoder_has_a_panel_with_its_own_layers(deep):
    found = {panel.title: panel for panel in layer_panels(deep)}
    assert list(found) == ["Linear probe: resnet18-fcn", "Linear probe: simplenet5"]
    assert found["Linear probe: simplenet5"].layers == ["conv1", "conv2", "latent"]
    assert found["Linear probe: resnet18-fcn"].layers == ["layer1", "latent"]
    assert all(set(own) == {"conv1", "conv2", "latent"} for own in found["Linear probe: simplenet5"].entries.values())


def test_one_layer_is_no_curve(workshop):
    workshop.add_color("a", ("latent", 1.0))
    workshop.add_color("b", ("conv1", 1.0), space="rgb")
    study = workshop.compare()
    assert layer_panels(study) == []
    assert layers_figure(study, looks(study.methods)) is None
    assert layers_table(study).rows == []


def test_maps_read_in_two_ways_have_panels_of_their_own(workshop):
    workshop.add_color("a", ("conv1", 1.0), ("conv2", 1.0), pool="avg")
    workshop.add_color("b", ("conv1", 1.0), ("conv2", 1.0), pool="resize", space="rgb")
    panels = layer_panels(workshop.compare())
    assert [panel.title for panel in panels] == ["Linear probe: simplenet5, avg", "Linear probe: simplenet5, resize"]
    assert [len(panel.entries) for panel in panels] == [1, 1]


def test_curves_have_layers_below_and_intervals_over_test_images(deep, drawn):
    layers_figure(deep, looks(deep.methods))
    axis = drawn[0].axes[1]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["conv1", "conv2", "latent"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("layer", "top-1, %")
    assert len(axis.containers) == 2
    line = axis.containers[0].lines[0]
    expected = [100 * _entry(deep, "simplenet5-split-brain-lab", layer).top1 for layer in ("conv1", "conv2", "latent")]
    assert list(line.get_ydata()) == pytest.approx(expected)
    assert all(abs(x - place) < 0.5 for place, x in enumerate(line.get_xdata()))
    low, high = _entry(deep, "simplenet5-split-brain-lab", "conv1").image_interval
    bar = axis.containers[0].lines[2][0].get_segments()[0]
    assert [bar[0][1], bar[1][1]] == pytest.approx([100 * low, 100 * high])
    words = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert sorted(words) == [
        "pixels", "resnet18-fcn-split-brain-rgb", "simplenet5-random", "simplenet5-split-brain-lab"]  # fmt: skip


def test_many_layers_have_tilted_names(workshop, drawn):
    workshop.add_color("a", *((f"conv{n}", 1.0) for n in range(1, 9)))
    study = workshop.compare()
    layers_figure(study, looks(study.methods))
    labels = drawn[0].axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == [f"conv{n}" for n in range(1, 9)]
    assert {label.get_rotation() for label in labels} == {45.0}


def test_grid_has_a_row_per_method_and_the_best_first(deep):
    panel = next(panel for panel in layer_panels(deep) if "simplenet5" in panel.title)
    labels = {method.identity.key: method.label for method in deep.methods}
    table = grid_table(panel, labels)
    assert [column.key for column in table.columns] == ["method", "conv1", "conv2", "latent"]
    assert [row[0] for row in table.rows] == ["simplenet5-split-brain-lab", "simplenet5-random"]
    assert table.rows[0][2] == _entry(deep, "simplenet5-split-brain-lab", "conv2").top1


def test_a_layer_that_a_method_lacks_is_empty(workshop):
    workshop.add_color("a", ("conv1", 1.0), ("conv2", 1.0))
    workshop.add_color("b", ("conv1", 3.0), space="rgb")
    study = workshop.compare()
    (panel,) = layer_panels(study)
    rows = grid_table(panel, {method.identity.key: method.label for method in study.methods}).rows
    assert (rows[0][0], rows[0][2]) == ("simplenet5-split-brain-rgb", None)


def test_table_has_a_row_per_layer_and_the_lead_over_the_same_network_untrained(deep):
    rows = _records(layers_table(deep))
    assert [(row["method"], row["layer"]) for row in rows] == [
        ("alexnet-fcn-split-brain-lab", "latent"),
        ("resnet18-fcn-split-brain-rgb", "layer1 (resize)"), ("resnet18-fcn-split-brain-rgb", "latent"),
        ("simplenet5-split-brain-lab", "conv1 (resize)"), ("simplenet5-split-brain-lab", "conv2 (resize)"),
        ("simplenet5-split-brain-lab", "latent"),
        ("simplenet5-random", "conv1 (resize)"), ("simplenet5-random", "conv2 (resize)"),
        ("simplenet5-random", "latent"),
    ]  # fmt: skip
    row = rows[4]
    own, control = (_entry(deep, label, "conv2") for label in ("simplenet5-split-brain-lab", "simplenet5-random"))
    assert (row["num_features"], row["seeds"]) == (9216, 2)
    assert row["top1"].value == own.top1
    assert row["lead"].value == pytest.approx(own.top1 - control.top1)
    assert row["lead"].interval[0] < row["lead"].value < row["lead"].interval[1]
    assert rows[1]["lead"] is None, "no random control of that network was run"
    assert rows[6]["lead"] is None, "a control has none"


def test_lead_of_one_seed_is_the_paired_difference(workshop):
    workshop.add_color("a", ("conv1", 1.0), ("conv2", 3.0))
    workshop.add_color("r", ("conv1", 1.0), ("conv2", 0.0), space=None)
    study = workshop.compare()
    lead = _records(layers_table(study))[1]["lead"]
    (test,) = next(evaluation for evaluation in study.evaluations if evaluation.layer == "conv2").pairs
    assert lead.value == test.difference > 0
    assert lead.interval == test.interval
