"""Published figures and ours beside them."""

from __future__ import annotations

import pytest

from pretext.published import PUBLISHED
from pretext.reports.published_tables import published_tables


def _records(table):
    return [dict(zip([column.key for column in table.columns], row, strict=True)) for row in table.rows]


def test_published_figures_stand_above_ours(study):
    (table, *_), notes = published_tables(study)
    rows = _records(table)
    wanted = {"method": "CNN-PSE-4 (cnn)", "measured": '"fine-tune", 5 folds'}
    first = next(n for n, row in enumerate(rows) if wanted.items() <= row.items())
    theirs, ours = rows[first], rows[first + 1 : first + 3]
    assert (theirs["ensemble_top1"].mean, theirs["fold_mean_top1"].mean, theirs["fold_mean_top1"].sd) == (
        0.5143, 0.4875, 0.007)  # fmt: skip
    assert {row["measured"] for row in ours} == {"Fine-tuned", 'Slides\' "fine-tune" (weights fixed)'}
    assert all(row["who"] == "ours" and row["method"] == "cnn-pse4" and row["same_protocol"] is False for row in ours)
    assert all(row["why"].startswith("ours: shapes images") and "width 0.25" in row["why"] for row in ours)
    evaluation = next(found for found in study.evaluations if found.label == ours[0]["measured"])
    entry = next(entry for entry in evaluation.entries if entry.method.label == "cnn-pse4")
    assert ours[0]["ensemble_top1"].mean == pytest.approx(entry.top1, abs=1e-9)
    assert any("never moves the encoder" in note for note in notes)
    assert len(notes) == len(set(notes))


def test_each_evaluation_gives_one_of_ours_to_a_published_row(study):
    (table, *_), _ = published_tables(study)
    seen: set[str] = set()
    for row in _records(table):
        if row["who"] != "ours":
            seen = set()
        else:
            assert row["measured"] not in seen
            seen.add(row["measured"])


def _entry(study, label, layer=""):
    return next(entry for evaluation in study.evaluations if evaluation.layer == layer or not layer
                for entry in evaluation.entries if entry.method.label == label)  # fmt: skip


def test_layers_have_a_table_with_a_column_each(workshop):
    workshop.add_color("a", ("conv1", 0.5), ("conv2", 1.0), ("latent", 2.0))
    workshop.add_color("b", ("conv1", 3.0), space="lab-rescaled")
    workshop.add_color("c", ("conv1", 4.0), space="rgb")
    study = workshop.compare()
    (wholes, layers, _), notes = published_tables(study)
    assert not any("split-brain" in row["method"] and row["who"] != "ours" for row in _records(wholes))
    theirs, ours = _records(layers)[:2]
    assert theirs["method"] == "split-brain (cl, cl) (alexnet-fcn)"
    assert (theirs["conv1"], theirs["conv2"]) == (0.177, 0.293)
    assert "conv3" not in theirs
    assert (ours["method"], ours["measured"]) == ("simplenet5-split-brain-lab", "Linear probe"), "it has more layers"
    for layer in ("conv1", "conv2"):
        assert ours[layer] == _entry(study, "simplenet5-split-brain-lab", layer).fold_mean
    assert ours["same_protocol"] is False
    assert ours["why"].startswith("ours: shapes images")
    assert any(note.startswith("Zhang, Isola, Efros 2017: Table 2") for note in notes)


def test_random_weights_stand_beside_gaussian_initialisation(workshop):
    workshop.add_color("a", ("conv1", 0.5), space=None)
    (_, layers, _), _ = published_tables(workshop.compare())
    assert [row["method"] for row in _records(layers)] == [
        "Gaussian initialisation (alexnet-fcn)", "simplenet5-random"]  # fmt: skip


def test_few_label_curves_have_a_table_with_a_column_each(workshop):
    layout = workshop.add_color("a", space="lab-rescaled", encoder="resnet18-fcn")
    workshop.fab.make_result(layout, "fine-tune-student", workshop.data, quality=1.0, seed=0, curve=(1, 8, 100),
                             unstratified=True)  # fmt: skip
    study = workshop.compare()
    (wholes, _, few), notes = published_tables(study)
    rows = _records(few)
    assert [row["measured"] for row in rows] == [
        "top-1, fine-tuned from the logits", "Student project's fine-tuning (from the logits)",
        "top-5, fine-tuned from the logits", "Student project's fine-tuning (from the logits)",
    ]  # fmt: skip
    assert [column.key for column in few.columns][3:5] == ["labels_1", "labels_8"]
    assert (rows[0]["labels_1"], rows[2]["labels_8"]) == (0.0065, 0.0998)
    curve = [row for row in study.evaluations[0].results[0].content["labels_per_class"] if row["labels_per_class"] == 8]
    assert rows[1]["labels_8"] == pytest.approx(sum(row["top1"] for row in curve) / 3)
    assert rows[3]["labels_8"] == pytest.approx(0.8)
    assert "stratified" not in rows[1]["why"], "they are drawn as theirs were"
    assert _records(wholes)[0]["method"] == "split-brain, ResNet18, re-scaled LAB (resnet18-fcn)"
    assert sum("Few-label sets are the first images" in note for note in notes) == 1


def test_whole_table_says_scores_of_one_model_where_theirs_are(workshop):
    layout = workshop.add_color("a", encoder="resnet18-fcn")
    workshop.fab.make_result(layout, "fine-tune-student", workshop.data, quality=1.0, seed=0)
    study = workshop.compare()
    (wholes, *_), _ = published_tables(study)
    theirs, ours = _records(wholes)
    assert (theirs["fold_mean_top1"].mean, theirs["fold_mean_top5"].mean) == (0.1351, 0.2945)
    entry = study.evaluations[0].entries[0]
    assert ours["fold_mean_top1"].mean == entry.fold_mean
    assert ours["fold_mean_top5"].mean == entry.mean_of("mean", "top5")
    assert ours["fold_mean_top5"].sd is None
    assert ours["why"].endswith("the data are not public")


def test_nothing_beside_nothing(workshop):
    workshop.add("a")
    tables, notes = published_tables(workshop.compare())
    assert [len(table.rows) for table in tables] == [0, 0, 0]
    assert notes == []


def test_rows_are_in_the_order_of_the_sources(study):
    (table, *_), _ = published_tables(study)
    by_row = {figure.row: (figure.source, f"{figure.method} ({figure.encoder})", figure.protocol)
              for figure in PUBLISHED}  # fmt: skip
    shown = [(row["who"], row["method"], row["measured"]) for row in _records(table) if row["who"] != "ours"]
    assert shown == [words for words in by_row.values() if words in shown]
    assert len(shown) > 8
