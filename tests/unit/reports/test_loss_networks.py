"""Which loss network and which of its layers: grids, ranks, what explains the variance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pretext.published import imagenet
from pretext.reports import loss_networks_figure as figures
from pretext.reports.answer import warnings
from pretext.reports.context_tables import methods_table
from pretext.reports.document import build_document
from pretext.reports.loss_networks import find_grids, loss_network_tables, predictors_table
from pretext.reports.loss_networks_figure import loss_networks_figure

NETWORKS = {"alexnet": 0.4, "vgg16": 1.6, "vgg16_bn": 0.8, "resnet18": 1.2, "squeezenet1_1": 1.4}
LAYER_QUALITY = {"1": 0.0, "2": 0.9, "3": 0.5, "4": -0.3}
SAW = "ImageNet-1K labels"


def _objective(network="vgg16", layer="2", weights="imagenet", **more):
    saw = {"loss_network_saw": SAW} if weights == "imagenet" else {}
    return {"name": "autoencode", "loss": "perceptual", "loss_network": network, "loss_network_weights": weights, "layer": layer,
            "normalize": "none", "loss_network_fingerprint": f"{network}-{weights}"} | saw | more  # fmt: skip


def _cell(workshop, quality, seed=0, **options):
    objective = _objective(**options)
    name = f"{objective['loss_network']}-{objective['loss_network_weights']}-{objective['layer']}-{seed}"
    return workshop.add(name, ("probe-linear", quality), seed=seed, objective=objective)


def _records(table):
    return [dict(zip([column.key for column in table.columns], row, strict=True)) for row in table.rows]


def _tables(grids, **options):
    return {table.name: _records(table) for table in loss_network_tables(grids, **options)}


@pytest.fixture(scope="module")
def compared(shared_workshop):
    """Five networks at four layers, one cell missing; random weights of two seeds; MSE; the controls; others."""
    for network, quality in NETWORKS.items():
        for layer, more in LAYER_QUALITY.items():
            if (network, layer) != ("alexnet", "4"):
                _cell(shared_workshop, quality + more, network=network, layer=layer)
    for seed in (0, 1):
        # the tensors of random weights are others for each seed, and so is their fingerprint
        _cell(shared_workshop, 0.2, seed, weights="random", loss_network_fingerprint=f"drawn {seed}")
    shared_workshop.add("mse", ("probe-linear", 1.0), loss="mse")
    shared_workshop.add("both", ("probe-linear", 1.0), objective=_objective(layer="1,2"))
    shared_workshop.add("random", ("probe-linear", 0.3), loss=None)
    shared_workshop.add("other-random", ("probe-linear", 0.3), loss=None, encoder="resnet18")
    shared_workshop.add("longer", ("probe-linear", 0.3), loss="mse", epochs=200)
    shared_workshop.add_pixels(0.1)
    return shared_workshop.compare()


@pytest.fixture(scope="module")
def grid(compared):
    (found,) = find_grids(compared)
    return found


def test_a_method_is_named_by_its_loss_network_and_layer(compared):
    labels = {method.label for method in compared.methods}
    assert {"cnn-perceptual-vgg16-2", "cnn-perceptual-vgg16-2-random", "cnn-perceptual-vgg16-1+2"} <= labels


def test_random_loss_networks_of_two_seeds_are_one_method(compared):
    method = next(method for method in compared.methods if method.label == "cnn-perceptual-vgg16-2-random")
    assert len(method.runs) == 2


def test_grid_holds_single_layers_and_the_rest_stands_beside_it(grid):
    assert len(grid.cells) == 5 * 4 - 1
    assert set(grid.untrained) == {("vgg16", "2")}
    others = {entry.method.label for entry in grid.others}
    assert others == {"cnn-random", "pixels", "cnn-perceptual-vgg16-1+2", "cnn-mse, epochs 20"}, (
        "neither what was trained for longer nor the control of another encoder")  # fmt: skip


def test_what_is_missing_is_said(grid):
    assert grid.missing == ["alexnet 4"]
    assert "alexnet" not in grid.complete


def test_report_has_a_section_with_figure_tables_and_what_is_missing(workshop):
    for network, layer in (("vgg16", "1"), ("vgg16", "2"), ("alexnet", "1")):
        _cell(workshop, 1.0, network=network, layer=layer)
    document = build_document(workshop.compare(), title="t")
    (section,) = [section for section in document.sections if section.anchor == "loss-networks"]
    assert [type(block).__name__ for block in section.blocks[:3]] == ["Picture", "Heading", "Text"]
    assert section.blocks[2].text.endswith("missing are alexnet 2.")
    assert [block.name for block in section.blocks[3:]] == ["loss-networks", "loss-network-layers"]
    assert "loss-networks" in [table.name for table in document.tables if table.rows]


def test_scores_and_ranks_are_those_of_the_cells(grid):
    rows = {row["network"]: row for row in _tables([grid])["loss-networks"] if row["weights"] == "ImageNet"}
    assert list(rows) == grid.networks
    cells = list(grid.cells)
    rank_of = dict(zip(cells, stats.rankdata([-grid.cells[cell].top1 for cell in cells]), strict=True))
    for network, row in rows.items():
        own = [layer for layer in LAYER_QUALITY if (network, layer) in grid.cells]
        scores = [row[f"layer_{layer}"] for layer in own]
        assert scores == [grid.cells[network, layer].top1 for layer in own]
        assert row["mean"] == pytest.approx(np.mean(scores))
        assert row["rank"] == pytest.approx(np.mean([rank_of[network, layer] for layer in own]))
        assert row["imagenet"] == imagenet.TOP1[network]
    assert rows["alexnet"]["layer_4"] is None
    ranks = [row["rank"] for row in rows.values()]
    assert ranks == sorted(ranks)


def test_random_weights_have_a_row_without_rank_or_accuracy(grid):
    (row,) = [row for row in _tables([grid])["loss-networks"] if row["weights"] == "random"]
    assert (row["network"], row["rank"], row["imagenet"], row["layer_1"]) == ("vgg16", None, None, None)
    assert row["layer_2"] == grid.untrained["vgg16", "2"].top1


def test_layers_have_mean_ranks_and_count_where_they_are_best(grid):
    rows = {row["layer"]: row for row in _tables([grid])["loss-network-layers"]}
    assert [rows[layer]["networks"] for layer in LAYER_QUALITY] == [5, 5, 5, 4]
    assert rows["2"]["best"] == sum(row["best"] for row in rows.values()) == 5
    assert rows["2"]["rank"] == min(row["rank"] for row in rows.values())


def test_variance_is_that_of_the_complete_networks(grid):
    rows = {row["part"]: row for row in _tables([grid])["loss-network-variance"]}
    value_AB = np.array([[grid.cells[name, layer].top1 for layer in LAYER_QUALITY] for name in grid.complete])
    assert (rows["network"]["levels"], rows["layer"]["levels"]) == (4, 4)
    total = value_AB.var()
    assert rows["network"]["eta"].value == pytest.approx(value_AB.mean(1).var() / total)
    assert rows["layer"]["eta"].value == pytest.approx(value_AB.mean(0).var() / total)
    assert sum(row["eta"].value for row in rows.values()) == pytest.approx(1)
    assert rows["layer"]["eta"].interval[0] < rows["layer"]["eta"].value < rows["layer"]["eta"].interval[1]
    assert rows["layer"]["omega"].value < rows["layer"]["eta"].value
    assert rows["rest"]["omega"] is None


def test_batch_norm_is_a_paired_difference_by_layer_and_over_layers(grid):
    rows = {row["layer"]: row for row in _tables([grid])["loss-network-batch-norm"]}
    differences = []
    for layer in LAYER_QUALITY:
        with_norm, without = grid.cells["vgg16_bn", layer], grid.cells["vgg16", layer]
        assert rows[layer]["difference"].value == pytest.approx(with_norm.top1 - without.top1)
        differences.append(with_norm.top1 - without.top1)
    mean = rows["mean"]
    assert mean["difference"].value == pytest.approx(np.mean(differences))
    assert mean["difference"].interval[0] < np.mean(differences) < mean["difference"].interval[1] < 0
    expected = stats.t.interval(0.95, 3, np.mean(differences), stats.sem(differences))
    assert mean["over_layers"].interval == pytest.approx(expected)


def test_correlation_with_imagenet_accuracy_is_spearmans(grid):
    rows = {row["what"]: row for row in _tables([grid])["loss-network-imagenet"]}
    scores = [np.mean([grid.cells[name, layer].top1 for layer in LAYER_QUALITY]) for name in grid.complete]
    expected = stats.spearmanr([imagenet.TOP1[name] for name in grid.complete], scores).statistic
    assert rows["mean of its layers"]["rho"].value == pytest.approx(expected)
    assert rows["mean of its layers"]["networks"] == 4
    assert rows["layer 1"]["networks"] == 5


def test_others_tell_how_many_cells_are_ahead_of_them(grid):
    rows = {row["method"]: row for row in _tables([grid])["loss-network-others"]}
    entry = next(entry for entry in grid.others if entry.method.label == "pixels")
    assert rows["pixels"]["ahead"] == sum(cell.top1 > entry.top1 for cell in grid.cells.values())
    assert rows["pixels"]["cells"] == 19


def test_tables_name_their_evaluation_only_when_asked(grid):
    assert _tables([grid])["loss-networks"][0]["evaluation"] == "Linear probe"
    assert "evaluation" not in _tables([grid], name_evaluation=False)["loss-networks"][0]


def test_two_cells_have_scores_but_no_analysis(workshop):
    _cell(workshop, 1.0, layer="1")
    _cell(workshop, 1.0, layer="3")
    (grid,) = find_grids(workshop.compare())
    tables = _tables([grid])
    assert len(tables["loss-networks"]) == 1
    assert [len(tables[f"loss-network-{name}"]) for name in ("variance", "batch-norm", "imagenet", "others")] == [0] * 4


def test_other_settings_make_a_grid_of_their_own(workshop):
    for normalize in ("none", "imagenet"):
        for layer in ("1", "2"):
            objective = _objective(layer=layer, normalize=normalize)
            workshop.add(f"{normalize}{layer}", ("probe-linear", 1.0), objective=objective)
    grids = find_grids(workshop.compare())
    assert sorted(grid.label for grid in grids) == ["Linear probe, normalize imagenet", "Linear probe, normalize none"]
    assert all(len(grid.cells) == 2 for grid in grids)
    assert all(not grid.others or {e.method.identity.options["normalize"] for e in grid.others} for grid in grids)


def test_lpips_of_single_layers_is_one_grid_though_each_layer_has_channel_weights_of_its_own(workshop):
    for layer in ("1", "2"):
        objective = _objective(layer=layer, loss="lpips", channel_weights="unit", channel_weights_fingerprint=layer)
        workshop.add(layer, ("probe-linear", 1.0), objective=objective)
    (grid,) = find_grids(workshop.compare())
    assert len(grid.cells) == 2


def test_one_cell_is_no_grid(workshop):
    _cell(workshop, 1.0)
    assert find_grids(workshop.compare()) == []
    assert loss_networks_figure([]) is None


def test_a_study_without_loss_networks_has_no_section_of_them(document):
    assert "loss-networks" not in [section.anchor for section in document.sections]


def test_variance_is_of_the_seeds_that_all_cells_have(workshop):
    for network in ("vgg16", "alexnet"):
        for layer in ("1", "2"):
            for seed in (0, 1, 2) if network == "vgg16" else (1, 2):
                _cell(workshop, float(seed), seed, network=network, layer=layer)
    (grid,) = find_grids(workshop.compare())
    value_AB = np.array([[np.mean([grid.cells[name, layer].results[seed].top(1) for seed in (1, 2)])
                          for layer in "12"] for name in ("vgg16", "alexnet")])  # fmt: skip
    rows = {row["part"]: row for row in _tables([grid])["loss-network-variance"]}
    assert rows["network"]["eta"].value == pytest.approx(value_AB.mean(1).var() / value_AB.var())


def test_figure_has_a_line_per_network_and_a_band_per_other(grid, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "finish", lambda figure, *words: drawn.append(figure))
    loss_networks_figure([grid])
    (axis,) = drawn[0].axes
    curves = [line for line in axis.lines if line.get_marker() not in ("None", None)]
    assert len(curves) == 5 + 1
    alexnet = next(line for line in curves if list(line.get_xdata()) == [0, 1, 2])
    assert list(alexnet.get_ydata()) == pytest.approx([100 * grid.cells["alexnet", layer].top1 for layer in "123"])
    assert len(axis.patches) == len(grid.others)
    words = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert len(words) == 6 + len(grid.others)
    assert {"vgg16", "vgg16, random weights"} <= set(words)


def test_labels_that_the_loss_network_saw_are_warned_of(compared, workshop):
    (line,) = [line for line in warnings(compared) if "a network that saw" in line]
    assert SAW in line
    assert "STL-10" not in line, "the made-up data set is no part of ImageNet"
    _cell(workshop, 1.0, weights="random")
    assert not any("a network that saw" in line for line in warnings(workshop.compare()))


def test_stl10_is_said_to_be_a_part_of_imagenet(fab, workshop):
    workshop.data = fab.make_data(workshop.root / "data" / "stl10", num_test=60)
    _cell(workshop, 1.0)
    (line,) = [line for line in warnings(workshop.compare()) if "a network that saw" in line]
    assert line.startswith("Behind these stands a network that saw ImageNet-1K labels: cnn-perceptual-vgg16-2.")
    assert "STL-10 is a part of ImageNet" in line


def test_a_published_network_is_no_control_but_a_reference_that_saw_labels(workshop, change_result):
    _cell(workshop, 1.0)
    layout = workshop.add_pixels(3.0)

    def alter(content):
        content["encoder"] |= {"name": "vgg16", "layer": "4"}
        content["objective"] = {"name": "supervised ImageNet-1K"}

    change_result(layout, "probe-linear", alter)
    study = workshop.compare()
    (line,) = [line for line in warnings(study) if "a network that saw" in line]
    assert "vgg16-supervised ImageNet-1K" in line
    (row,) = [row for row in _records(methods_table(study)) if "supervised" in row["method"]]
    assert row["what"].startswith("reference: a published network")


def test_predictors_have_a_column_each_and_are_means_over_seeds(workshop, change_result):
    sizes = [[], [32], [64, 32]]
    for seed, gain in ((0, 0.0), (1, 0.1)):
        layout = workshop.add(f"m{seed}", ("probe-mlp-seven", 1.0), seed=seed)
        rows = [{"hidden": size, "top1": 0.3 + 0.1 * index + gain} for index, size in enumerate(sizes)]
        change_result(layout, "probe-mlp-seven", lambda content, rows=rows: content.update(predictors=rows))
    workshop.add("plain", ("probe-linear", 1.0))
    study = workshop.compare()
    (row,) = _records(predictors_table(study.evaluations))
    assert row["evaluation"] == "Best of seven MLP probes"
    assert [row[f"hidden_{name}"] for name in ("linear", "32", "64-32")] == pytest.approx([0.35, 0.45, 0.55])
    assert row["mean"] == pytest.approx(0.45)
